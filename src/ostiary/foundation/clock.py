"""Time comes in through a `Clock`, so that the pure parts stay pure and tests choose the hour."""

from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    def now(self) -> datetime:
        """The current time, aware, in UTC."""
        ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


def to_us(at: datetime) -> int:
    """Microseconds since the epoch, as tables hold a time."""
    return (at - EPOCH) // timedelta(microseconds=1)


def from_us(at_us: int) -> datetime:
    return EPOCH + timedelta(microseconds=at_us)


def stamp(at: datetime) -> str:
    """The time as people and programs are told it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
