"""Contexts: hours, place, device, sign-in, and what is made of other contexts by all, any and not."""

from functools import partial
from typing import Final

from ostiary.policy.model import ContextRule
from ostiary.policy.node import Mapping, Node, Scalar, names_in
from ostiary.policy.reader import Reader

EVERY_DAY: Final = tuple(range(7))
OTHERS: Final = ("all", "any", "not")


def read_contexts(reader: Reader, node: Node | None) -> tuple[ContextRule, ...]:
    """The contexts; what one is made of is made of no others, so that each can be read at a glance."""
    told = node.entries if isinstance(node, Mapping) else {}
    made = frozenset(name for name, (_, value) in told.items() if not set(OTHERS).isdisjoint(names_in(value)))
    return reader.named(node, partial(_context, reader, made), what="contexts")


def _context(reader: Reader, made: frozenset[str], name: str, key: Scalar, node: Node) -> ContextRule:
    part, told = reader.read(node, "context", what=f"context {name}")
    timed = part.keys() & {"days", "hours", "zone", "holidays"}
    if timed and not part.keys() >= {"hours", "zone"}:
        reader.report(
            key, "hours need a zone, and days and holidays need both", 'hours: "08:00-18:00", zone: Europe/Berlin'
        )
    for one, item in (each for key in OTHERS for each in reader.texts(part.get(key), what=key)):
        if one in made:
            reader.report(item, f"context {one} is made of others itself", "name what it is made of")
    if timed:
        told.setdefault("days", EVERY_DAY)
    return ContextRule(name=name, source=reader.source(key), **told)
