"""Time comes in through a `Clock`, so that the pure parts stay pure and tests choose the hour."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """The current time, aware, in UTC."""
        ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass(slots=True)
class FixedClock:
    """The honest twin: stands still until it is set."""

    at: datetime

    def now(self) -> datetime:
        return self.at
