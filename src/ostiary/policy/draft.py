"""Roles that a source proposes, as the text of a policy: nothing of the source's own words can be more than a comment."""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, count
from typing import Final

from ostiary.erp.catalogue import Role
from ostiary.erp.operation import operation_named
from ostiary.foundation.errors import harmless
from ostiary.policy import keys
from ostiary.policy.fmt import fmt
from ostiary.policy.model import Kind, Level
from ostiary.policy.sections import excess
from ostiary.policy.words import FORMS

COMMENT_MAX_CHARS: Final = 300
NAME_MAX_CHARS: Final = 60


def draft(head: Iterable[str], roles: Iterable[Role], notes: Iterable[str], kinds: Mapping[str, Kind] = {}) -> str:
    """A policy in its one form. A role without a department is of the narrowest level; an odd name is left out, and told."""
    listed = [role for role in roles if role.may or role.notes]
    named = list(zip(_names(role.name for role in listed), listed, strict=True))
    names = {role.name: name for name, role in named}
    lines = [*map(_comment, notes), *head, "roles:" if listed else "roles: {}"]
    below = (line for name, role in named for line in _role(name, role, names, kinds))
    return fmt("\n".join([*lines, *below]) + "\n", "draft")


def _role(name: str, role: Role, names: Mapping[str, str], kinds: Mapping[str, Kind]) -> Iterator[str]:
    level = Level.USER if role.department else Level.PARTNER
    lines = {permission: _line(permission, level, kinds) for permission in sorted(role.may)}
    left_out = (permission for permission, line in lines.items() if not line)
    notes = (*role.notes, *(f"left out, for no role of level {level} can hold it: {one}" for one in left_out))
    yield from (f"  {_comment(note)}" for note in notes)
    yield f"  {name}:"
    yield f"    level: {level}"
    yield from [f"    of: {role.department}"] if role.department else []
    if included := [names[name] for name in role.includes if name in names]:
        yield f"    includes: [{', '.join(included)}]"
    yield "    may:" if any(lines.values()) else "    may: []"
    yield from (f'      - "{line}" {_comment(role.may[permission])}' for permission, line in lines.items() if line)


def _line(permission: str, level: Level, kinds: Mapping[str, Kind]) -> str:
    """As a line of `may`; "" for what would mean more than this one thing, or nothing, or is too much for the level."""
    did = operation_named(permission)
    line = f"{did.system}/{did.object}: {did.verb} {did.action}".rstrip() if did else ""
    if not did or not FORMS["OPERATION"].fullmatch(line):
        return ""
    return "" if any(excess(level, [did.pattern], kinds)) else line


def _comment(text: str) -> str:
    return f"# {harmless(' '.join(text.split()))[:COMMENT_MAX_CHARS]}"


def _names(labels: Iterable[str]) -> Iterator[str]:
    """A role's name for each label, no two the same, whatever the source calls them."""
    taken = set[str]()
    for label in labels:
        plain = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:NAME_MAX_CHARS]
        stem = plain if plain[:1].isalpha() and plain not in keys.RESERVED_LIMITS else f"role-{plain}"
        numbered = (f"{stem}-{number}" for number in count(len(taken)))
        name = next(one for one in chain([stem], numbered) if one not in taken)
        taken.add(name)
        yield name
