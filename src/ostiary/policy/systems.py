"""The protected ERPs: each with a place and an audience of its own."""

from collections.abc import Sequence
from functools import partial

from ostiary.policy import keys, words
from ostiary.policy.model import SystemRule
from ostiary.policy.node import Mapping, Node, Scalar
from ostiary.policy.reader import Reader


def read_systems(reader: Reader, node: Node | None) -> tuple[SystemRule, ...]:
    """The systems that were understood; what was not is reported."""
    systems = reader.named(node, partial(_system, reader), what="systems")
    if isinstance(node, Mapping):
        _places_differ(reader, node, systems)
    return systems


def _system(reader: Reader, name: str, key: Scalar, node: Node) -> SystemRule | None:
    part = reader.mapping(node, keys.SYSTEM, what=f"system {name}")
    kind = reader.word(part.get("kind"), keys.KINDS, what="kind", default="")
    place = reader.understood(part.get("at"), words.place, what="at")
    upstream = reader.understood(part.get("upstream"), words.upstream, what="upstream")
    needed = {"tryton": "database", "openapi": "spec"}.get(kind)
    if needed and needed not in part:
        reader.report(key, f"a system of kind {kind} needs the key {needed!r}", f"{needed}: ...")
    if place and place[1] and kind == "tryton":
        reader.report(part["at"], "Tryton answers at its own paths, without a prefix", place[0])
    session = "session" if kind == "tryton" else "none"
    rule = {
        "audience": reader.text(part.get("audience"), what="audience", default=f"https://{''.join(place or ())}"),
        "database": reader.understood(part.get("database"), words.database, what="database") or "",
        "spec": reader.text(part.get("spec"), what="spec"),
        "hand_over": reader.word(part.get("hand-over"), keys.HAND_OVERS, what="hand-over", default=session),
    }
    if place is None or upstream is None:
        return None
    host, prefix = place
    return SystemRule(name=name, kind=kind, host=host, prefix=prefix, upstream=upstream, at=reader.at(key), **rule)


def _places_differ(reader: Reader, node: Mapping, systems: Sequence[SystemRule]) -> None:
    """One place is one system; so is one audience, or a token for one would open the other."""
    for number, system in enumerate(systems):
        key = node.entries[system.name][0]
        for other in systems[:number]:
            if (system.host, system.prefix) == (other.host, other.prefix):
                reader.report(key, f"{system.name} and {other.name} are at the same place", "at: another")
            elif system.audience == other.audience:
                reader.report(key, f"{system.name} and {other.name} have one audience", "audience: ...")
