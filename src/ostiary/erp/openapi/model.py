"""What an OpenAPI document says, in our words."""

from msgspec import Struct

from ostiary.erp.route import Route


class Trouble(Struct, frozen=True, kw_only=True):
    """Something in the document that can't be enforced. What stands at `pointer` is left out, and so denied.

    `call`: the operation or the path, where it is about one.
    """

    pointer: str
    message: str
    call: str = ""

    def __str__(self) -> str:
        place, left_out = self.pointer or "/", f"{self.call} is left out, and so denied: {self.message}"
        return f"{left_out} ({place})" if self.call else f"{place}: {self.message}"


class Loaded(Struct, frozen=True, kw_only=True):
    """`fatal`: the document as a whole is unusable. `base`: the path below which its server has all others."""

    routes: tuple[Route, ...] = ()
    problems: tuple[Trouble, ...] = ()
    base: str = ""
    fatal: bool = False


class Refused(Exception):
    """A signal inside this package; `load` makes it a Trouble."""

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(message)
        self.trouble = Trouble(pointer=pointer, message=message)


def escaped(name: object) -> str:
    """One reference token of a JSON pointer (RFC 6901)."""
    return str(name).replace("~", "~0").replace("/", "~1")
