"""An operation that the URL names, as an OpenAPI document describes it and the plan keeps it."""

from msgspec import Struct

from ostiary.erp.operation import Operation, Verb


class Parameter(Struct, frozen=True, kw_only=True):
    """A described parameter. `schema` is JSON Schema 2020-12 as JSON text; `x-commas` in it: one text, comma-joined."""

    name: str
    place: str  # path, query, header
    required: bool
    schema: str


class Route(Struct, frozen=True, kw_only=True, cache_hash=True):
    """Method and path template below the system's prefix, `{name}` for one segment, and what the operation is.

    `inspect`: the guard must look at the query or the body before it passes.
    """

    system: str
    method: str
    template: str
    object: str
    verb: Verb
    action: str = ""
    parameters: tuple[Parameter, ...] = ()
    body_schema: str = ""  # "" : no body is described, none may be sent
    body_required: bool = False
    inspect: bool = False

    @property
    def operation(self) -> Operation:
        return Operation(system=self.system, object=self.object, verb=self.verb, action=self.action)

    @property
    def permission(self) -> str:
        return self.operation.permission
