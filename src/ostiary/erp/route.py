"""An operation that the URL names, as an OpenAPI document describes it and the plan keeps it."""

import re
from typing import Final

from msgspec import Struct

from ostiary.erp.operation import Operation, Verb

OWN_KEYS: Final = ("x-api-key", "api-key", "apikey", "dolapikey", "x-auth-token")  # headers of an ERP's own keys
QUERY_KEYS: Final = frozenset(
    {"apikey", "apisecret", "sid", "sessionid", "accesstoken", "authtoken"}
)  # without `-`, `_`
GIVEN: Final = "x-gw-given-"  # before the name of a described header, as the guard gives it to the gate
HEADER: Final = re.compile(r"[a-z0-9.-]{1,100}")  # the gate takes no `_` in a name
# Credentials, what tells of the caller, and what makes another request of one: no document can list these as parameters.
NO_PARAMETERS: Final = (
    "authorization", "cookie", "proxy-authorization", "dpop", "x-gw-", "x-forwarded", "x-odoo-", "x-frappe-", *OWN_KEYS,
    "forwarded", "x-real-ip", "x-http-method", "x-method-override", "x-original-", "x-rewrite-", "connection", "upgrade",
    "keep-alive", "trailer",
)  # fmt: skip


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
    def headers(self) -> tuple[str, ...]:
        """Those of its parameters that reach the system, as the guard found them, and on no other route."""
        names = (parameter.name.lower() for parameter in self.parameters if parameter.place == "header")
        return tuple(name for name in names if HEADER.fullmatch(name) and not name.startswith(NO_PARAMETERS))

    @property
    def permission(self) -> str:
        return self.operation.permission
