"""Clients that register themselves (RFC 7591, 7592), each by an initial access token that an administrator gave out."""

import hmac
import json
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct, convert, to_builtins
from sqlalchemy import Connection, delete, func, insert, select
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ostiary.audit.log import Change
from ostiary.foundation.errors import CallerFault
from ostiary.foundation.secret import Secret, new_id
from ostiary.identity import clients, names, principals, registration
from ostiary.identity.clients import CERTIFICATE, DPOP, FAPI2, OIDC_SCOPES, SECRET, Client
from ostiary.identity.credentials import Drawer, derived, new_secret, pepper
from ostiary.identity.principals import Keys
from ostiary.identity.provisioning import Lent
from ostiary.identity.registration import DAY_S, DAYS, DAYS_MAX
from ostiary.identity.request import Refused, bearer, query, read_json, refuse_foreign
from ostiary.identity.server import NO_STORE, Server
from ostiary.store.database import Sealer
from ostiary.store.tables import ONE_TIME, REGISTERED

KIND: Final = "initial-access"
BY: Final = "registration:"  # whoever registers acts by that name
REGISTERED_MAX: Final = 1_000  # clients that registered themselves, in all
TITLE_MAX_CHARS: Final = 80  # a host stands behind it
UNFIT: Final = "invalid_client_metadata"
Scopes = Annotated[list[str], Meta(min_length=1)]  # none would mean everything
Count = Annotated[int, Meta(ge=1, le=100)]
Days = Annotated[int, Meta(ge=1, le=DAYS_MAX)]
Auth = Literal["client_secret_basic", "client_secret_post", "private_key_jwt", "self_signed_tls_client_auth", "none"]


class Metadata(Struct, frozen=True, kw_only=True):
    """What a client says of itself; whatever is not here is passed over (RFC 7591 section 2)."""

    redirect_uris: list[str]
    client_name: Annotated[str, Meta(max_length=TITLE_MAX_CHARS)] = "App"
    scope: str = ""
    grant_types: list[Literal["authorization_code", "refresh_token"]] = []
    response_types: list[Literal["code"]] = []
    id_token_signed_response_alg: Literal["ES256"] = "ES256"  # noqa: S105  no password
    token_endpoint_auth_method: Auth = "client_secret_basic"  # noqa: S105  no password
    jwks: dict[str, Any] = {}
    jwks_uri: Any = None
    software_statement: Any = None
    dpop_bound_access_tokens: bool = False
    tls_client_certificate_bound_access_tokens: bool = False
    require_pushed_authorization_requests: bool = False
    client_id: str = ""  # of an update, as the client has it


def open_registration(
    change: Change, *, sealer: Sealer, name: str, scopes: Scopes, uses: Count = 1, days: Count = 7,
    profile: Literal["oauth21", "fapi2"] = "oauth21", client_days: Days = DAYS,
) -> list[Secret]:  # fmt: skip
    """So many initial access tokens, each for one client, which may ask for these scopes at most."""
    names.refuse_name(name)
    names.refuse_scopes(scopes)
    facts: dict[str, Any] = {"profile": profile, "scopes": scopes, "client_days": client_days}
    made = [new_secret() for _ in range(uses)]
    for one in made:
        _drawer(change, sealer).keep(one.reveal(), days * DAY_S, client=f"{BY}{name}", **facts)
    change.note("registration.open", f"{BY}{name}", after={"uses": uses, "days": days, **facts})
    return made


def close_registration(change: Change, *, name: str) -> Keys:
    """Nobody registers by it any more; who did, stays."""
    ends = delete(ONE_TIME).where(ONE_TIME.c.client == f"{BY}{name}", ONE_TIME.c.used.is_(False))
    gone = len(change.connection.execute(ends.returning(ONE_TIME.c.digest)).all())
    if not gone:
        raise CallerFault("no-registration", f"no registration {name} is open", hint="see `ostiary registration list`")
    change.note("registration.close", f"{BY}{name}", before={"uses": gone})
    return ()


def listed(connection: Connection) -> list[dict[str, Any]]:
    """Each registration that is open: how many clients may come yet, and the most that these may be."""
    open_ = (ONE_TIME.c.client.startswith(BY), ONE_TIME.c.used.is_(False))
    rows = select(ONE_TIME.c.client, ONE_TIME.c.facts, func.count().label("uses")).where(*open_)
    rows = rows.group_by(ONE_TIME.c.client, ONE_TIME.c.facts).order_by(ONE_TIME.c.client)
    found = connection.execute(rows).all()
    return [{"name": row.client.removeprefix(BY), "uses": row.uses, **json.loads(row.facts)} for row in found]


def endpoint(server: Server, request: Request, body: bytes) -> Response:
    """POST makes a client; at its own address it is read, changed and removed by its own token, and by no other."""
    refuse_foreign(request)
    if query(request):
        raise Refused("invalid_request", "send nothing in the query")
    method, token = request.method, bearer(request)
    with server.store.read() as connection:
        actor = who = _let_in(server, connection, request.path_params.get("client_id", ""), token)
    secret, status = {}, 201 if method == "POST" else 200
    if method not in {"GET", "HEAD"}:
        told = to_builtins(read_json(body, Metadata, UNFIT)) if method != "DELETE" else {}
        done = server.changing("register", actor, {"method": method, "token": token, "told": told})
        who, secret = done["id"], done["secret"]
    server.note(request, method.lower(), client=who.partition(":")[2], by=actor)
    if method == "DELETE":
        return Response(status_code=204, headers=NO_STORE)
    with server.store.read() as connection:
        return JSONResponse({**_told(server, connection, who), **secret}, status, headers=NO_STORE)


def act(change: Change, lent: Lent, *, method: str, token: str, told: Any) -> tuple[dict[str, Any], Keys]:
    """What control does in its transaction, for the actor that the endpoint let in."""
    try:
        if method == "POST":
            return _register(change, lent.sealer, token, convert(told, Metadata))
        one = _living(change.connection, change.actor, int(change.now.timestamp()))
        if one is None:
            raise _unknown()  # it has ended since the endpoint let it in
        if method == "DELETE":
            return {"id": one.principal, "secret": {}}, principals.remove(change, principal=one.principal)
        return _update(change, lent.sealer, one, convert(told, Metadata))
    except CallerFault as problem:
        error = "invalid_redirect_uri" if problem.code == "redirect-invalid" else UNFIT
        raise Refused(error, problem.message) from problem


def _register(change: Change, sealer: Sealer, token: str, told: Metadata) -> tuple[dict[str, Any], Keys]:
    """The token is used up, but for one who is refused."""
    kept = _drawer(change, sealer).use(token)
    if kept is None:
        raise _unknown()
    if change.connection.execute(select(func.count()).select_from(REGISTERED)).scalar_one() >= REGISTERED_MAX:
        raise Refused("access_denied", "as many clients as there may be have registered themselves", status=403)
    profile, scopes, days = (kept.facts[name] for name in ("profile", "scopes", "client_days"))
    facts = {"client_id": new_id("app"), "profile": profile, "days": days, **_facts(told, profile, scopes)}
    made = registration.add_client(change, sealer=sealer, **facts)
    change.connection.execute(insert(REGISTERED).values(principal=made.id, scopes=" ".join(scopes)))
    return _given(made), ()


def _update(change: Change, sealer: Sealer, one: Client, told: Metadata) -> tuple[dict[str, Any], Keys]:
    """The whole is said anew (RFC 7592 section 2.2): what is left out is as if it had never been said."""
    if told.client_id != one.id:
        raise Refused(UNFIT, "client_id is as it was given")
    facts = _facts(told, one.profile, str(one.most).split())
    keys, made = registration.change_client(change, client_id=one.id, **facts), registration.Made(one.principal, None)
    if facts["auth"] == SECRET != one.auth:
        made = registration.rotate_secret(change, sealer=sealer, client_id=one.id)
    return _given(made), keys


def _facts(told: Metadata, profile: str, most: list[str]) -> dict[str, Any]:
    """As `registration` takes them; a person sees where the client will send him, whatever it calls itself."""
    scopes = sorted(set(told.scope.split()) - OIDC_SCOPES) or most
    by_tls = told.tls_client_certificate_bound_access_tokens
    by_par = told.require_pushed_authorization_requests
    unfit = {
        "software statements are not known here: leave it out": told.software_statement,
        "keys are fetched from nowhere: send them as jwks": told.jwks_uri,
        "only a client of the profile fapi2 has to push its requests": by_par and profile != FAPI2,
        "tokens are bound to one key: by DPoP, or by a certificate": told.dpop_bound_access_tokens and by_tls,
        f"ask for no more than {' '.join(most)}": not all(clients.covered(scope, most) for scope in scopes),
        "name where people are sent back to": not told.redirect_uris,
    }
    for why in (why for why, so in unfit.items() if so):
        raise Refused(UNFIT, why)
    names.refuse_redirects(told.redirect_uris)
    auth = told.token_endpoint_auth_method
    return {
        "name": f"{told.client_name}{_host(told.redirect_uris)}", "scopes": scopes, "redirects": told.redirect_uris,
        "auth": SECRET if auth.startswith(SECRET) else auth, "jwks": json.dumps(told.jwks) if told.jwks else "",
        "bound": CERTIFICATE if by_tls else DPOP if told.dpop_bound_access_tokens else "",
    }  # fmt: skip


def _host(redirects: Iterable[str]) -> str:
    """All of them: the one that it is not known for is where a code would go."""
    return f" ({', '.join(dict.fromkeys(str(urlsplit(one).hostname) for one in redirects))})"


def _given(made: registration.Made) -> dict[str, Any]:
    return {"id": made.id, "secret": {"client_secret": made.secret.reveal()} if made.secret else {}}


def _told(server: Server, connection: Connection, principal: str) -> dict[str, Any]:
    """The client information response (RFC 7591 section 3.2.1), without a secret, which is shown once."""
    one = _living(connection, principal, server.now_s())
    assert one is not None, "whoever was let in is there"
    return {
        "client_id": one.id, "client_id_issued_at": one.made_at_us // 1_000_000, "client_secret_expires_at": one.until_s,
        "client_name": one.name.removesuffix(_host(one.redirects)), "redirect_uris": one.redirects,
        "scope": " ".join(sorted({*one.scopes, *OIDC_SCOPES})),
        "grant_types": clients.SELF_REGISTERED_GRANTS, "response_types": ["code"],
        "token_endpoint_auth_method": "client_secret_basic" if one.auth == SECRET else one.auth,
        "dpop_bound_access_tokens": one.bound == DPOP,
        "tls_client_certificate_bound_access_tokens": one.bound == CERTIFICATE,
        "require_pushed_authorization_requests": one.profile == FAPI2,
        "registration_client_uri": f"{server.issuer}/register/{one.id}",
        "registration_access_token": _token(server, one), **({"jwks": json.loads(one.jwks)} if one.jwks else {}),
    }  # fmt: skip


def _let_in(server: Server, connection: Connection, client_id: str, token: str) -> str:
    """As whom the caller acts: as the client itself, or by the leave of whoever opened the registration."""
    one = _living(connection, f"client:{client_id}", server.now_s())
    if one and hmac.compare_digest(_token(server, one).encode(), token.encode()):
        return one.principal
    kept = None if client_id else server.drawer(connection, KIND).look(token)
    if kept is None or kept.used:
        raise _unknown()
    return kept.client


def _living(connection: Connection, principal: str, now_s: int) -> Client | None:
    """A client that registered itself, and is neither disabled nor over."""
    kind, _, client_id = principal.partition(":")
    one = clients.find(connection, client_id) if kind == "client" else None  # and not by whose leave one registers
    return one if one and one.self_registered and one.until_s > now_s else None


def _token(server: Server, one: Client) -> str:
    """Kept nowhere: it can be made again for whoever has shown it."""
    return derived(server.key, "registration", one.principal, str(one.made_at_us)).reveal()


def _drawer(change: Change, sealer: Sealer) -> Drawer:
    return Drawer(change.connection, pepper(change.connection, sealer), KIND, int(change.now.timestamp()))


def _unknown() -> Refused:
    return Refused("invalid_token", "the token opens nothing here", status=401, guessed=True)
