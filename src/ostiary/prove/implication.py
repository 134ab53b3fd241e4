"""Whether one condition holds whenever another does; "no" where that can't be seen."""

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

from ostiary.plan.formula import MINUTES_A_DAY, All, Always, AnyOf, Formula, Hours, Networks, Not

WEEK_MINUTES = 7 * MINUTES_A_DAY
WHOLE_WEEK = (1 << WEEK_MINUTES) - 1


def implies(one: Formula, other: Formula) -> bool:
    """Whether `other` surely holds whenever `one` does."""
    if one == other or isinstance(other, Always):
        return True
    if isinstance(one, AnyOf):
        return all(implies(part, other) for part in one.parts)
    if isinstance(other, All):
        return all(implies(one, part) for part in other.parts)
    if isinstance(other, AnyOf) and any(implies(one, part) for part in other.parts):
        return True
    return _plainly(one, other) or (isinstance(one, All) and any(implies(part, other) for part in one.parts))


def _plainly(one: Formula, other: Formula) -> bool:
    match one, other:
        case Hours(), Hours() if one.zone == other.zone:
            return not _week(one) & ~_week(other)
        case _, Hours():
            return _week(other) == WHOLE_WEEK
        case Networks(), Networks():
            return all(any(_inside(a, b) for b in _collapsed(other)) for a in _collapsed(one))
        case Not(), Not():
            return implies(other.part, one.part)
    return False


@lru_cache(maxsize=4096)
def _week(hours: Hours) -> int:
    """The minutes of the week on that zone's clock, one bit each, Monday's first minute the lowest."""
    found = 0
    length = (hours.end - hours.start) % MINUTES_A_DAY or MINUTES_A_DAY
    for day in set(hours.days):
        bits = ((1 << length) - 1) << (day * MINUTES_A_DAY + hours.start)
        found |= (bits & WHOLE_WEEK) | (bits >> WEEK_MINUTES)
    return found


@lru_cache(maxsize=4096)
def _collapsed(networks: Networks) -> tuple[IPv4Network | IPv6Network, ...]:
    """Neighbours made one, so that two halves hold what the whole does."""
    parsed = [ip_network(text) for text in networks.networks]
    v4 = [one for one in parsed if isinstance(one, IPv4Network)]
    v6 = [one for one in parsed if isinstance(one, IPv6Network)]
    return (*collapse_addresses(v4), *collapse_addresses(v6))


def _inside(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    return one.version == other.version and one.subnet_of(other)  # type: ignore[arg-type]  # the same version
