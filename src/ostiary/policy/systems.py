"""The protected ERPs: each with a place and an audience of its own."""

import re
from collections.abc import Sequence
from datetime import UTC
from functools import partial
from typing import Any, Final

from ostiary.policy.model import HandOver, Kind, System
from ostiary.policy.node import Mapping, Node, Scalar
from ostiary.policy.reader import Reader, made

BEARER: Final = ("authorization: Bearer {key}",)
KEY: Final = re.compile("{(?:key|basic)}")
OF_WAY: Final = {"sends": HandOver.KEY, "token-from": HandOver.OAUTH, "token-scope": HandOver.OAUTH}
NEEDED: Final = {Kind.TRYTON: "database", Kind.OPENAPI: "spec"}


def read_systems(reader: Reader, node: Node | None) -> tuple[System, ...]:
    """The systems that were understood; what was not is reported."""
    systems = reader.named(node, partial(_system, reader), what="systems")
    if isinstance(node, Mapping):
        _places_differ(reader, node, systems)
    return systems


def _system(reader: Reader, name: str, key: Scalar, node: Node) -> System | None:
    part, told = reader.read(node, "system", what=f"system {name}")
    kind, place = told.get("kind"), told.pop("at", None)
    for of, needed in NEEDED.items() if kind else ():
        if of is kind and needed not in part:
            reader.report(key, f"a system of kind {kind} needs the key {needed!r}", f"{needed}: ...")
        if of is not kind and needed in part:
            reader.report(part[needed], f"a system of kind {kind} has no {needed}", f"leave `{needed}` out")
    _handed_over(reader, key, part, told)
    if place is None:
        return None
    host, prefix = place
    if prefix and kind is Kind.TRYTON:
        reader.report(part["at"], "Tryton answers at its own paths, without a prefix", host)
    if until := told.get("observe_until"):
        told["observe_until"] = until.astimezone(UTC)
    otherwise = {
        "audience": f"https://{host}{prefix}",
        "hand_over": HandOver.SESSION if kind is Kind.TRYTON else HandOver.NONE,
        "sends": BEARER if told.get("hand_over") is HandOver.KEY else (),
    }
    return made(System, {**otherwise, **told}, name=name, host=host, prefix=prefix, source=reader.source(key))


def _handed_over(reader: Reader, key: Scalar, part: dict[str, Node], told: dict[str, Any]) -> None:
    """Each form of it with what it needs, and nothing of another."""
    way, kind = told.get("hand_over"), told.get("kind")
    if way is HandOver.SESSION and kind is Kind.OPENAPI:
        reader.report(part["hand-over"], f"nobody signs in to a system of kind {kind}", "key, oauth, or none")
    if way in {HandOver.KEY, HandOver.OAUTH} and kind is Kind.TRYTON:
        reader.report(part["hand-over"], f"to a system of kind {kind} the gate signs in", "session, or none")
    if way is HandOver.OAUTH and "token-from" not in part:
        reader.report(key, "hand-over oauth needs the key 'token-from'", "token-from: ...")
    for name, of in OF_WAY.items():
        if name in part and way is not of:
            reader.report(part[name], f"{name} is for hand-over {of}", f"hand-over: {of}")
    sends = told.get("sends") or BEARER
    if not any(map(KEY.search, sends)):
        reader.report(part["sends"], "no header holds the key", '"Authorization: Bearer {key}"')
    if len({line.partition(":")[0] for line in sends}) < len(sends):
        reader.report(part["sends"], "a header stands twice", "each once")


def _places_differ(reader: Reader, node: Mapping, systems: Sequence[System]) -> None:
    """One place is one system; so is one audience, or a token for one would open the other."""
    for number, system in enumerate(systems):
        key = node.entries[system.name][0]
        for other in systems[:number]:
            if (system.host, system.prefix) == (other.host, other.prefix):
                reader.report(key, f"{system.name} and {other.name} are at the same place", "at: another")
            elif system.audience == other.audience:
                reader.report(key, f"{system.name} and {other.name} have one audience", "audience: ...")
