"""Filters and orders: each field that they look at is read, by the rules of Tryton's own `search`."""

from typing import Any, Final

from ostiary.erp.operation import Refused, Verb
from ostiary.erp.walk import DEPTH_MAX, Place, Walk, dead_end

OPERATORS: Final = frozenset(
    {"=", "!=", "<", ">", "<=", ">=", "like", "ilike", "in", "not like", "not ilike", "not in"}
)
TREE: Final = frozenset({"child_of", "not child_of", "parent_of", "not parent_of"})
WHERE: Final = frozenset({"where", "not where"})
CLAUSE_LENGTH: Final = 3  # field, operator, value; a fourth names an object, or for a tree the field to its parent


def filters(walk: Walk, model: str, domain: Any, *, pointer: str, depth: int = DEPTH_MAX) -> frozenset[str]:
    """The object's own fields that a domain looks at."""
    walk.step(pointer)
    if not isinstance(domain, list) or depth == 0:
        raise Refused.invalid("a domain is a list, not nested too deeply", pointer)
    if _is_clause(domain):
        return frozenset({_clause(walk, model, domain, pointer, depth)})
    parts = domain[1:] if domain[:1] in (["AND"], ["OR"]) else domain
    found: frozenset[str] = frozenset()
    for number, part in enumerate(parts):
        found |= filters(walk, model, part, pointer=f"{pointer}/{number}", depth=depth - 1)
    return found


def _is_clause(domain: list[Any]) -> bool:
    return len(domain) >= CLAUSE_LENGTH and isinstance(domain[0], str) and domain[0] not in {"AND", "OR"}


def _clause(walk: Walk, model: str, clause: list[Any], pointer: str, depth: int) -> str:
    path, operator, value = clause[:CLAUSE_LENGTH]
    if not isinstance(operator, str):
        raise Refused.invalid("a condition is [field, operator, value]", pointer)
    place = walk.path(model, path, pointer)
    if operator in WHERE:
        target = place.end.target or dead_end(path, pointer)
        below = filters(walk, target, value, pointer=f"{pointer}/2", depth=depth - 1)
        walk.does(target, Verb.READ, "search", pointer=pointer, fields_read=below)
    elif operator in TREE:
        _tree(walk, place, clause, pointer)
    elif operator in OPERATORS:
        _compared(walk, place, clause, pointer)
    else:
        raise Refused.unknown("the operator in a condition is not known", pointer)
    return place.head


def _tree(walk: Walk, place: Place, clause: list[Any], pointer: str) -> None:
    """The records above or below others, by the link to the parent: the field itself, or the fourth part of a clause."""
    target = place.end.target or dead_end(clause[0], pointer)
    for parent in clause[CLAUSE_LENGTH:]:
        if not isinstance(parent, str):
            raise Refused.invalid("the link to the parent is a field", pointer)
        head = walk.path(target, parent, pointer).head
        walk.does(target, Verb.READ, "search", pointer=pointer, fields_read=frozenset({head}))
    walk.compares(place.end, clause[2], pointer)


def _compared(walk: Walk, place: Place, clause: list[Any], pointer: str) -> None:
    """A fourth part names the object that a reference is to lead to."""
    named = clause[CLAUSE_LENGTH:]
    if len(named) > 1 or not all(isinstance(one, str) for one in named):
        raise Refused.invalid("a condition is [field, operator, value, object]", pointer)
    walk.compares(place.end, clause[2], pointer)
    for target in named:
        walk.names(target, pointer)


def orders(walk: Walk, model: str, order: Any, *, pointer: str) -> frozenset[str]:
    """The object's own fields that an order goes by; by a link, records are ordered by the name it leads to."""
    if not isinstance(order, list | None):
        raise Refused.invalid("an order is a list of [field, direction]", pointer)
    found = set()
    for number, part in enumerate(order or []):
        at = f"{pointer}/{number}"
        match part:
            case [str(path), str() | None]:
                place = walk.path(model, path, at)
            case _:
                raise Refused.invalid("an order is a list of [field, direction]", at)
        if place.end.target:
            walk.names(place.end.target, at)
        found.add(place.head)
    return frozenset(found)
