"""What an OpenAPI document says, in our words."""

from typing import Protocol

from msgspec import Struct

from ostiary.erp.operation import Verb


class Parameter(Struct, frozen=True, kw_only=True):
    """A described parameter. `schema` is JSON Schema 2020-12 as JSON text; `x-commas` in it: one text, comma-joined."""

    name: str
    place: str  # path, query, header
    required: bool
    schema: str


class Described(Struct, frozen=True, kw_only=True):
    """An operation of the document, with the fields of `plan.model.Route`. `pointer` says where it stands."""

    system: str
    method: str
    template: str
    object: str
    verb: Verb
    action: str = ""
    parameters: tuple[Parameter, ...] = ()
    body_schema: str = ""
    body_required: bool = False
    inspect: bool = False
    pointer: str = ""


class Trouble(Struct, frozen=True, kw_only=True):
    """Something in the document that can't be enforced. What stands at `pointer` is left out, and so denied."""

    pointer: str
    message: str

    def __str__(self) -> str:
        return f"{self.pointer or '/'}: {self.message}"


class Loaded(Struct, frozen=True, kw_only=True):
    """`fatal`: the document as a whole is unusable."""

    routes: tuple[Described, ...] = ()
    problems: tuple[Trouble, ...] = ()
    fatal: bool = False


class Templated(Protocol):
    """The part of a route that matching needs: `Described` and the plan's `Route` both have it."""

    @property
    def system(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def template(self) -> str: ...
    @property
    def object(self) -> str: ...
    @property
    def verb(self) -> Verb: ...
    @property
    def action(self) -> str: ...


class Refused(Exception):
    """A signal inside this package; `load` makes it a Trouble."""

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(message)
        self.trouble = Trouble(pointer=pointer, message=message)


def escaped(name: object) -> str:
    """One reference token of a JSON pointer (RFC 6901)."""
    return str(name).replace("~", "~0").replace("/", "~1")
