"""A moment and an address at which one condition holds and another does not."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import islice, product
from typing import Final

from msgspec import Struct

from ostiary.plan.formula import All, AnyOf, Formula, Hours, Networks, Not, holds, zone

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONDAYS: Final = (datetime(2026, 1, 5), datetime(2026, 7, 6))  # noqa: DTZ001  winter and summer, on each zone's clock
NOON: Final = datetime(2026, 1, 5, 12, tzinfo=UTC)
SOMEWHERE: Final = ip_address("192.0.2.1")  # of the documentation's (RFC 5737)
ADDRESSES_MAX: Final = 200

Address = IPv4Address | IPv6Address


class Instance(Struct, frozen=True):
    """`timed`, `placed`: whether the conditions turn on the one or the other."""

    at: datetime
    source: Address
    timed: bool
    placed: bool

    def __str__(self) -> str:
        when = f"on {DAYS[self.at.weekday()]} at {self.at:%H:%M} {self.at.tzinfo}"
        return " ".join([when] * self.timed + [f"from {self.source}"] * self.placed)


def example(holding: Formula, other: Formula) -> Instance | None:
    """Such a request, where one is found.

    Conditions change only where hours begin or end and where networks do, so it is enough to look there.
    """
    parts = [*_parts(holding), *_parts(other)]
    timed = [part for part in parts if isinstance(part, Hours)]
    placed = [part for part in parts if isinstance(part, Networks)]
    addresses = list(islice(dict.fromkeys(_addresses(placed)), ADDRESSES_MAX)) or [SOMEWHERE]
    for at in dict.fromkeys(_moments(timed)) or [NOON]:
        for source in addresses:
            if holds(holding, at=at, source=source) and not holds(other, at=at, source=source):
                return Instance(at, source, bool(timed), bool(placed))
    return None


def _parts(formula: Formula) -> Iterator[Formula]:
    match formula:
        case All() | AnyOf():
            for part in formula.parts:
                yield from _parts(part)
        case Not():
            yield from _parts(formula.part)
        case _:
            yield formula


def _moments(timed: list[Hours]) -> Iterator[datetime]:
    for monday in MONDAYS:
        for before, hours in product((0, 1), timed):
            for day, edge in product(range(len(DAYS)), (hours.start, hours.end)):
                minute = edge - before
                yield (monday + timedelta(days=day, minutes=minute)).replace(tzinfo=zone(hours.zone))


def _addresses(placed: list[Networks]) -> Iterator[Address]:
    for text in (text for part in placed for text in part.networks):
        network = ip_network(text)
        yield network[0]
        for neighbour, edge in ((network[0], -1), (network[-1], 1)):
            try:
                yield neighbour + edge
            except ValueError:  # there is none beyond
                continue
