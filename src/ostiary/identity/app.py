"""The authorization server's endpoints (RFC 6749, 7009, 8414, 9207, OpenID Connect Core) as one ASGI application."""

import logging
from collections.abc import Callable
from typing import Any, Final

import anyio
from anyio import CapacityLimiter
from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ostiary.audit.log import Change
from ostiary.foundation.clock import Clock
from ostiary.foundation.errors import OstiaryError
from ostiary.foundation.home import Home
from ostiary.foundation.jose import Claims, revocation_keys
from ostiary.foundation.secret import new_id
from ostiary.foundation.settings import Settings
from ostiary.identity import grants, keys, sign_in, tokens
from ostiary.identity.principals import revoke_grant, revoke_token
from ostiary.identity.request import TEXT_MAX_BYTES, Refused, call, client_credentials, parse, query
from ostiary.identity.server import Revoked, Server
from ostiary.plan.reason import HEADER, Reason
from ostiary.store.database import Store
from ostiary.store.directory import revoked_keys
from ostiary.store.seal import Sealer
from ostiary.store.tables.directory import PRINCIPAL

NO_STORE: Final = {"cache-control": "no-store"}
THREADS: Final = 8
PASSWORD_THREADS: Final = 2  # each argon2id takes 19 MiB and a core
WAITING_MAX: Final = 50  # for one of these threads; more would only wait in vain
GRANT_TYPES: Final = ["authorization_code", "client_credentials", "refresh_token"]
log = logging.getLogger(__name__)

Handler = Callable[[Server, Request, bytes], Response]


def create(
    store: Store, sealer: Sealer, settings: Settings, clock: Clock, *, revoked: Revoked, home: Home
) -> Starlette:
    """The application under the path of `settings.issuer`; `revoked` is told every key that is revoked here."""
    server = Server(store, sealer, settings, clock, home, revoked)
    threads, slow = CapacityLimiter(THREADS), CapacityLimiter(PASSWORD_THREADS)
    base = "/identity"

    def route(path: str, methods: str, handler: Handler, limiter: CapacityLimiter = threads) -> Route:
        return Route(path, _endpoint(server, handler, limiter), methods=methods.split(","))

    made = Starlette(
        routes=[
            route(f"{base}/authorize", "GET", sign_in.show),
            route(f"{base}/sign-in", "POST", sign_in.answer, slow),
            route(f"{base}/token", "POST", token),
            route(f"{base}/revoke", "POST", revoke),
            route(f"{base}/userinfo", "GET,POST", userinfo),
            route(f"{base}/jwks", "GET", jwks),
            route(f"{base}/.well-known/openid-configuration", "GET", metadata),
            route(f"{base}/.well-known/oauth-authorization-server", "GET", metadata),
            route(f"/.well-known/oauth-authorization-server{base}", "GET", metadata),
        ]
    )
    made.router.redirect_slashes = False  # it would answer 307, and so send credentials on
    made.state.server = server  # whoever ends the process closes it
    return made


def _endpoint(server: Server, handler: Handler, limiter: CapacityLimiter) -> Any:
    async def endpoint(request: Request) -> Response:
        try:
            body = await _body(request)
            if limiter.statistics().tasks_waiting >= WAITING_MAX:
                return _refusal(Refused("temporarily_unavailable", "too many ask at once; try again", status=503))
            async with limiter:
                if await request.is_disconnected():  # nothing is worked out for a caller who has left
                    return Response(status_code=400)
                return await anyio.to_thread.run_sync(_answered, server, handler, request, body)
        except Refused as refused:
            return _refusal(refused)
        except ClientDisconnect:
            return Response(status_code=400)
        except (DBAPIError, OSError, OstiaryError):  # the store, or the disk under the journal
            log.exception("the request to %s could not be answered", call(request))
            return _refusal(Refused("temporarily_unavailable", "try again in a moment", status=503))

    return endpoint


def _answered(server: Server, handler: Handler, request: Request, body: bytes) -> Response:
    try:
        return handler(server, request, body)
    except Refused as refused:
        server.note(request, refused.error, **{"why": refused.description, **refused.facts})
        raise


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > TEXT_MAX_BYTES:
            raise Refused("invalid_request", "the request is too long", status=413)
    return body


def token(server: Server, request: Request, body: bytes) -> Response:
    form = _form(request, body)
    kind = form.get("grant_type", "")
    if kind not in GRANT_TYPES:
        raise Refused("unsupported_grant_type" if kind else "invalid_request", "the grant type is not known")
    name, secret = client_credentials(request.headers.get("authorization", ""), form)
    device = request.headers.get("x-gw-device", "")
    if kind == "client_credentials":
        with server.store.read() as connection:
            client = grants.authenticate(connection, server.key, name, secret)
            told, claims = _for_machine(server, connection, client, form, device)
    else:
        try:
            with server.store.begin() as connection:
                client = grants.authenticate(connection, server.key, name, secret)
                told, claims = _for_person(server, connection, client, form, kind, device)
        except grants.Replayed as replayed:
            server.note(request, "replayed", client=name, grant=replayed.grant)
            return _replayed(server, replayed)
    server.note(request, "issued", client=client.id, subject=claims.subject, grant=claims.grant, jti=claims.jti)
    return JSONResponse(told, headers=NO_STORE)


def _for_machine(
    server: Server, connection: Connection, client: grants.Client, form: dict[str, str], device: str
) -> tuple[dict[str, Any], Claims]:
    if client.public:
        raise Refused("unauthorized_client", "a public client has no credentials of its own")
    audience, system = server.audience(form.get("resource", ""))
    asked = frozenset(form.get("scope", "").split())
    wanted = asked - grants.OIDC_SCOPES
    if asked and not wanted:  # nothing left would mean everything
        raise Refused("invalid_scope", "a client signs nobody in: ask for a scope of the system")
    grant = tokens.OfItsOwn(new_id("gr"), client.principal, client.principal, audience)
    scopes = grants.narrow(client, " ".join(wanted), system)
    claims = tokens.claims_for(server, connection, grant, scopes=scopes, device=device)
    return tokens.answer(server.signing(connection)["access"], claims), claims


def _for_person(  # noqa: PLR0917  what the request shows
    server: Server, connection: Connection, client: grants.Client, form: dict[str, str], kind: str, device: str
) -> tuple[dict[str, Any], Claims]:
    now_s = server.now_s()
    if kind == "authorization_code":
        code, redirect, verifier = (form.get(name, "") for name in ("code", "redirect_uri", "code_verifier"))
        shown = {"code": code, "redirect": redirect, "verifier": verifier}
        grant, renewal = grants.redeem(connection, server.key, now_s, client, **shown)
    else:
        grant, renewal = grants.refresh(connection, server.key, now_s, client, form.get("refresh_token", ""))
    if form.get("resource", grant.audience) != grant.audience:
        raise Refused("invalid_target", "the grant is for another system")
    scopes = frozenset(grant.scopes.split())
    wanted = frozenset(form.get("scope", "").split()) or scopes
    if not wanted <= scopes:
        raise Refused("invalid_scope", "more than was granted")
    claims = tokens.claims_for(server, connection, grant, scopes=wanted, device=device)
    signs = server.signing(connection)
    told = tokens.answer(signs["access"], claims)
    told["refresh_token"] = renewal.reveal()
    if "openid" in wanted:
        nonce = grant.nonce if kind == "authorization_code" else ""
        told["id_token"] = tokens.id_token(signs["id"], claims, name=grant.name, nonce=nonce)
    return told, claims


def _replayed(server: Server, replayed: grants.Replayed) -> Response:
    """Everything the grant gave is revoked, in a transaction that stays."""
    with server.store.begin() as connection:
        change = Change(connection, "ostiary", server.now())
        gone = revoke_grant(change, grant=replayed.grant, reason="a one-time token came twice")
    server.take_back(gone)
    return _refusal(Refused("invalid_grant", "it was used before; everything it gave is revoked"))


def revoke(server: Server, request: Request, body: bytes) -> Response:
    """RFC 7009: 200 whatever it was; only the client's own tokens go."""
    form = _form(request, body)
    if "token" not in form:
        raise Refused("invalid_request", "name the token")
    gone: tuple[str, ...] = ()
    name, secret = client_credentials(request.headers.get("authorization", ""), form)
    with server.store.begin() as connection:
        client = grants.authenticate(connection, server.key, name, secret)
        text = form["token"]
        change = Change(connection, client.principal, server.now())
        if grant := grants.grant_of_refresh(connection, server.key, client, text):
            gone = revoke_grant(change, grant=grant, reason="revoked by its client")
        elif (claims := tokens.read_access_token(server, connection, text)) and claims.client == client.id:
            gone = revoke_token(change, jti=claims.jti, reason="revoked by its client")
    server.note(request, "done", client=client.id, keys=" ".join(gone))
    server.take_back(gone)
    return Response(headers=NO_STORE)


def userinfo(server: Server, request: Request, _body: bytes) -> Response:
    """OpenID Connect Core section 5.3; refusals in the words of RFC 6750 section 3."""
    _refuse_foreign(request)
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not text:
        return _challenge(Reason.TOKEN_MISSING)
    with server.store.read() as connection:
        claims = tokens.read_access_token(server, connection, text)
        if claims is None:
            return _challenge(Reason.TOKEN_INVALID)
        if revoked_keys(connection, server.now_s()) & set(revocation_keys(claims)):
            return _challenge(Reason.TOKEN_REVOKED)
        if "openid" not in claims.scopes:
            return _challenge(Reason.SCOPE)
        told = {"sub": claims.subject}
        if "profile" in claims.scopes:
            told["name"] = _name(connection, claims.subject)
    return JSONResponse(told, headers=NO_STORE)


def _challenge(reason: Reason) -> Response:
    said = {"www-authenticate": reason.challenge, HEADER: str(reason)}
    return Response(status_code=reason.status, headers={**NO_STORE, **said})


def jwks(server: Server, _request: Request, _body: bytes) -> Response:
    """A client may keep them as long as `keys` counts on it that nobody keeps them longer."""
    with server.store.read() as connection:
        told = keys.published(connection)
    return JSONResponse(told, headers={"cache-control": f"public, max-age={keys.JWKS_LIFE_S}"})


def metadata(server: Server, _request: Request, _body: bytes) -> Response:
    issuer = server.issuer
    ways = ["client_secret_basic", "client_secret_post"]
    told = {
        "issuer": issuer,
        **{f"{name}_endpoint": f"{issuer}/{path}" for name, path in
           {"authorization": "authorize", "token": "token", "revocation": "revoke", "userinfo": "userinfo"}.items()},
        "jwks_uri": f"{issuer}/jwks",
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": GRANT_TYPES,
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": [*ways, "none"],
        "revocation_endpoint_auth_methods_supported": [*ways, "none"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "acr_values_supported": [sign_in.ACR],
        "scopes_supported": sorted(grants.OIDC_SCOPES),
        "authorization_response_iss_parameter_supported": True,
        "request_uri_parameter_supported": False,
    }  # fmt: skip
    return JSONResponse(told)


def _refuse_foreign(request: Request) -> None:
    """Wrong tries block an address: another web page must not make its visitors' browsers try."""
    if request.headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
        raise Refused("invalid_request", "another web page sent this", status=403)


def _form(request: Request, body: bytes) -> dict[str, str]:
    _refuse_foreign(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if query(request) or kind != "application/x-www-form-urlencoded":
        raise Refused("invalid_request", "send a form, and nothing in the query")
    return parse(body)


def _name(connection: Connection, principal: str) -> str:
    return str(connection.execute(select(PRINCIPAL.c.name).where(PRINCIPAL.c.id == principal)).scalar_one())


def _refusal(refused: Refused) -> Response:
    headers = {**NO_STORE, **({"www-authenticate": 'Basic realm="ostiary"'} if refused.status == 401 else {})}  # noqa: PLR2004  RFC 6749 section 5.2
    headers |= {HEADER: str(Reason.CREDENTIAL_INVALID)} if refused.guessed else {}
    return JSONResponse(
        {"error": refused.error, "error_description": refused.description}, refused.status, headers=headers
    )
