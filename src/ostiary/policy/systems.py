"""The protected ERPs: each with a place and an audience of its own."""

from collections.abc import Sequence
from datetime import UTC
from functools import partial
from typing import Final

from ostiary.policy import keys, words
from ostiary.policy.model import HandOver, Kind, System
from ostiary.policy.node import Mapping, Node, Scalar
from ostiary.policy.reader import Reader

NEEDED: Final = {Kind.TRYTON: "database", Kind.OPENAPI: "spec"}


def read_systems(reader: Reader, node: Node | None) -> tuple[System, ...]:
    """The systems that were understood; what was not is reported."""
    systems = reader.named(node, partial(_system, reader), what="systems")
    if isinstance(node, Mapping):
        _places_differ(reader, node, systems)
    return systems


def _system(reader: Reader, name: str, key: Scalar, node: Node) -> System | None:
    part = reader.mapping(node, keys.PARTS["system"], what=f"system {name}")
    kind = reader.word(part.get("kind"), Kind, what="kind")
    place = reader.understood(part.get("at"), words.place, what="at")
    upstream = reader.understood(part.get("upstream"), words.upstream, what="upstream")
    if kind and (needed := NEEDED[kind]) not in part:
        reader.report(key, f"a system of kind {kind} needs the key {needed!r}", f"{needed}: ...")
    if place and place[1] and kind is Kind.TRYTON:
        reader.report(part["at"], "Tryton answers at its own paths, without a prefix", place[0])
    audience = reader.text(part.get("audience"), what="audience", default=f"https://{''.join(place or ())}")
    database = reader.understood(part.get("database"), words.database, what="database")
    spec = reader.text(part.get("spec"), what="spec")
    until = reader.understood(part.get("observe-until"), words.moment, what="observe-until")
    hand_over = reader.word(part.get("hand-over"), HandOver, what="hand-over")
    if kind is None or place is None or upstream is None:
        return None
    return System(
        name=name,
        kind=kind,
        host=place[0],
        prefix=place[1],
        upstream=upstream,
        audience=audience,
        database=database or "",
        spec=spec,
        hand_over=hand_over or (HandOver.SESSION if kind is Kind.TRYTON else HandOver.NONE),
        observe_until=until and until.astimezone(UTC),
        source=reader.source(key),
    )


def _places_differ(reader: Reader, node: Mapping, systems: Sequence[System]) -> None:
    """One place is one system; so is one audience, or a token for one would open the other."""
    for number, system in enumerate(systems):
        key = node.entries[system.name][0]
        for other in systems[:number]:
            if (system.host, system.prefix) == (other.host, other.prefix):
                reader.report(key, f"{system.name} and {other.name} are at the same place", "at: another")
            elif system.audience == other.audience:
                reader.report(key, f"{system.name} and {other.name} have one audience", "audience: ...")
