"""The honest twin of the system's clock."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(slots=True)
class FixedClock:
    """Stands still until it is set."""

    at: datetime

    def now(self) -> datetime:
        return self.at
