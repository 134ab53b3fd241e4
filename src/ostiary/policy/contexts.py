"""Contexts: hours, place, device, sign-in, and what is made of other contexts by all, any and not."""

from functools import partial
from typing import Final

from ostiary.policy import keys, words
from ostiary.policy.model import Assurance, ContextRule, Devices
from ostiary.policy.node import Mapping, Node, Scalar, names_in, says_nothing
from ostiary.policy.reader import Reader

EVERY_DAY: Final = tuple(range(7))
OTHERS: Final = ("all", "any", "not")


def read_contexts(reader: Reader, node: Node | None) -> tuple[ContextRule, ...]:
    """The contexts; what one is made of is made of no others, so that each can be read at a glance."""
    told = node.entries if isinstance(node, Mapping) else {}
    plain = {name: set(OTHERS).isdisjoint(names_in(value)) for name, (_, value) in told.items()}
    return reader.named(node, partial(_context, reader, plain), what="contexts")


def _context(reader: Reader, plain: dict[str, bool], name: str, key: Scalar, node: Node) -> ContextRule | None:
    part = reader.mapping(node, keys.PARTS["context"], what=f"context {name}")
    if says_nothing(node):
        reader.report(key, f"context {name} says nothing", '{days: mon-fri, hours: "08:00-18:00", zone: Europe/Berlin}')
        return None
    timed = part.keys() & {"days", "hours", "zone", "holidays"}
    if timed and not part.keys() >= {"hours", "zone"}:
        reader.report(
            key, "hours need a zone, and days and holidays need both", 'hours: "08:00-18:00", zone: Europe/Berlin'
        )
    days = reader.understood(part.get("days"), words.days, what="days")
    start, end = reader.understood(part.get("hours"), words.hours, what="hours") or (0, 0)
    zone = reader.understood(part.get("zone"), words.zone, what="zone")
    return ContextRule(
        name=name,
        days=days or (EVERY_DAY if timed else ()),
        start=start,
        end=end,
        zone=zone or "",
        holidays=reader.each_of(part, "holidays", words.holiday, "2026-12-24"),
        networks=reader.each_of(part, "networks", words.network, "203.0.113.0/24"),
        countries=reader.each_of(part, "countries", words.country, "DE, AT"),
        device=reader.word(part.get("devices"), Devices, what="devices") is not None,
        mfa=reader.word(part.get("assurance"), Assurance, what="assurance") is not None,
        within=reader.understood(part.get("within"), words.age, what="within") or 0,
        every=_named(reader, part, "all", plain),
        some=_named(reader, part, "any", plain),
        none=_named(reader, part, "not", plain),
        source=reader.source(key),
    )


def _named(reader: Reader, part: dict[str, Node], key: str, plain: dict[str, bool]) -> tuple[str, ...]:
    told = reader.texts(part.get(key), what=key)
    reader.refuse_empty(part.get(key), "no context is named", f"{key}: [office-hours]")
    for name, node in told:
        if plain.get(name) is False:
            reader.report(node, f"context {name} is made of others itself", "name what it is made of")
    return reader.known(told, plain, what="context")
