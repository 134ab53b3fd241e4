"""One difference between two plans."""

from msgspec import Struct


class Change(Struct, frozen=True, kw_only=True):
    """`widens`: somebody could do more, or a request goes another way: look at it before it is made.

    `where` is the line that makes the difference, in the plan that has it.
    """

    widens: bool
    text: str
    role: str = ""
    permission: str = ""
    context: str = ""
    where: str = ""
