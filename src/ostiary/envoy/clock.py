"""When a request came, as words behind its class: a regular expression reads them at a tenth of what CEL costs (measured).

The last of them tell the gate's own zone, which is that of the policy when Envoy starts; hours of another are for CEL.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from ostiary.envoy import matcher
from ostiary.envoy.edge import Json
from ostiary.envoy.message import CLASS_HEADER
from ostiary.plan.formula import Hours
from ostiary.plan.model import Plan

WORDS: Final = "%START_TIME_LOCAL(%s %u%H%M %Y%m%d)%"  # seconds of the epoch; day of the week (Monday 1) and time; date
DIGITS: Final = 10  # of the seconds, until the year 2286


def zone_of(plan: Plan) -> str:
    """The zone of most of its contexts of hours, which is worth the gate's clock."""
    named = Counter(one.zone for one in plan.conditions if isinstance(one, Hours))
    return max(sorted(named), key=named.__getitem__, default="UTC")


def before(until: datetime) -> Json:
    """A predicate: the request came before then. Of two numbers of one length, the first other digit tells."""
    then = f"{int(until.timestamp()):0{DIGITS}}"
    smaller = [
        f"{then[:at]}[0-{int(digit) - 1}][0-9]{{{DIGITS - 1 - at}}}" for at, digit in enumerate(then) if digit > "0"
    ]
    return matcher.regex(CLASS_HEADER, f".* (?:{'|'.join(smaller)}) [0-9]{{5}} [0-9]{{8}}")


def within(days: Iterable[int], start: int, end: int, holidays: Iterable[str]) -> Json:
    """A predicate: on one of these days (Monday 0), in the minutes [start, end), on none of these dates ("20261224",
    or "1224" of every year).
    """
    chosen = "".join(str(day + 1) for day in sorted(days))
    on = matcher.regex(CLASS_HEADER, f".* [{chosen}](?:{'|'.join(_times(start, end))}) [0-9]{{8}}")
    dates = "|".join(f"{one:.>8}" for one in sorted(holidays))
    return matcher.both([on, {"not_matcher": matcher.regex(CLASS_HEADER, f".* (?:{dates})")}]) if dates else on


def _times(start: int, end: int) -> Iterable[str]:
    for hour in range(HOURS_A_DAY):
        first, last = max(start - MINUTES_AN_HOUR * hour, 0), min(end - MINUTES_AN_HOUR * hour, MINUTES_AN_HOUR)
        if first < last:
            minutes = "|".join(f"{minute:02}" for minute in range(first, last))
            yield f"{hour:02}" + ("[0-9]{2}" if (first, last) == (0, MINUTES_AN_HOUR) else f"(?:{minutes})")
