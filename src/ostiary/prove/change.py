"""One difference between two plans."""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from ostiary.plan.model import Source
from ostiary.prove.request import Request

NAMES_TOLD_MAX: Final = 10


class Change(Struct, frozen=True, kw_only=True):
    """`widens`: somebody could do more, or a request goes another way: look at it before it is made.

    `where` is the line that makes the difference, in the plan that has it; `request` is allowed by the wider plan alone.
    """

    widens: bool
    text: str
    role: str = ""
    permission: str = ""
    context: str = ""
    where: str = ""
    request: Request | None = None


def at_line(source: Source | None, text: str, *, widens: bool, before: str = "", **more: Any) -> Change:
    """What this line makes another, or what made it so `before`, told with it."""
    return Change(widens=widens, text=f"{text} ({before}{source})", where=str(source), **more)


def few(names: Sequence[str]) -> str:
    """The names, or the first of them and how many more there are."""
    more = len(names) - NAMES_TOLD_MAX
    return ", ".join(names[:NAMES_TOLD_MAX]) + (f" and {more} more" if more > 0 else "")
