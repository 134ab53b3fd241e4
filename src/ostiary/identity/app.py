"""The authorization server's endpoints (RFC 6749, 7009, 8414, 9207, OpenID Connect Core) as one ASGI application."""

import logging
import tomllib
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from importlib import resources
from typing import Any, Final

import anyio
from anyio import CapacityLimiter
from sqlalchemy import Connection, select
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, request_response

from ostiary.foundation.api_key import PLACE, WRONG
from ostiary.foundation.clock import Clock
from ostiary.foundation.home import Home, Settings
from ostiary.foundation.proof import ALGORITHMS, USE_NONCE
from ostiary.identity import asked, clients, endpoint, keys, logout, outside, page, registration, scim, sign_in, tokens
from ostiary.identity.request import TEXT_MAX_BYTES, Refused, call, refuse_foreign
from ostiary.identity.server import NO_STORE, Arrived, Changing, Revoked, Server
from ostiary.plan.decide import HEADER, NONCE_ASKED, Reason
from ostiary.store.database import Sealer, Store
from ostiary.store.tables import PRINCIPAL

THREADS: Final = 8
PASSWORD_THREADS: Final = 2  # each argon2id takes 19 MiB and a core
OUTSIDE_THREADS: Final = 4  # each may wait for a provider
CHANGING_THREADS: Final = 2  # that wait for control: nobody who signs in waits with them
KEY_THREADS: Final = 4  # a flood of keys keeps nobody from signing in
METHODS: Final = "GET,POST,PUT,PATCH,DELETE"
WAITING_MAX: Final = 50  # for one of these threads; more would only wait in vain
METADATA: Final = tomllib.loads((resources.files("ostiary.identity") / "metadata.toml").read_text("utf-8"))
BUSY: Final = Refused("temporarily_unavailable", "too many ask at once; try again", status=503)
FAILED: Final = Refused("temporarily_unavailable", "try again in a moment", status=503)
LEFT: Final = Refused("invalid_request", "the caller left before he was answered")
log = logging.getLogger(__name__)

Handler = Callable[[Server, Request, bytes], Response]


def create(
    store: Store, sealer: Sealer, settings: Settings, clock: Clock, *,
    revoked: Revoked, arrived: Arrived, changing: Changing, home: Home,
) -> Starlette:  # fmt: skip
    """The application under the path of `settings.issuer`.

    `revoked` is told every key that is revoked here; by `changing` control changes the directory.
    """
    server = Server(store, sealer, settings, clock, home, revoked, arrived, changing)
    limits = (THREADS, PASSWORD_THREADS, OUTSIDE_THREADS, CHANGING_THREADS, KEY_THREADS)
    threads, slow, far, others, keyed = map(CapacityLimiter, limits)
    base = "/identity"

    def route(
        path: str, methods: str, handler: Handler, limiter: CapacityLimiter = threads, most: int = TEXT_MAX_BYTES
    ) -> Route:
        return Route(path, _endpoint(server, handler, limiter, most), methods=methods.split(","))

    made = Starlette(
        routes=[
            route(f"{base}/authorize", "GET", sign_in.show),
            route(f"{base}/sign-in", "POST", sign_in.answer, slow),
            route(f"{base}/provider/{{name}}/sign-in", "POST", outside.begin, far),
            route(f"{base}/provider/{{name}}/callback", "GET", outside.back, far),
            route(f"{base}/provider/{{name}}/logout", "POST", outside.logged_out, far),
            route(f"{base}/device", "GET", sign_in.show_device),
            route(f"{base}/passkey.js", "GET", page.script),
            route(f"{base}/account", "GET", sign_in.show_account),
            route(f"{base}/account", "POST", sign_in.act_at_account, slow),
            route(f"{base}/logout", "GET,POST", logout.end),
            route(f"{base}/device-authorization", "POST", asked.begin_device),
            route(f"{base}/token", "POST", endpoint.token),
            Mount(PLACE, app=request_response(_endpoint(server, endpoint.show_key, keyed, TEXT_MAX_BYTES))),
            route(f"{base}/par", "POST", asked.push),
            route(f"{base}/revoke", "POST", endpoint.revoke),
            route(f"{base}/introspect", "POST", endpoint.introspect),
            route(f"{base}/userinfo", "GET,POST", userinfo),
            route(f"{base}/register", "POST", registration.endpoint, others),
            route(f"{base}/register/{{client_id}}", "GET,PUT,DELETE", registration.endpoint, others),
            route(f"{base}/scim/v2/{{place:path}}", METHODS, scim.endpoint, others, scim.BODY_MAX_BYTES),
            route(f"{base}/jwks", "GET", jwks),
            route(f"{base}/.well-known/openid-configuration", "GET", metadata),
            route(f"{base}/.well-known/oauth-authorization-server", "GET", metadata),
            route(f"/.well-known/oauth-authorization-server{base}", "GET", metadata),
        ]
    )
    made.add_exception_handler(404, _nothing)
    made.router.redirect_slashes = False  # it would answer 307, and so send credentials on
    made.state.server = server  # whoever ends the process closes it
    return made


async def _nothing(request: Request, _: Exception) -> Response:
    """Where an API key is shown, whatever finds nothing (a path with a line's end) is no key."""
    shown = request.scope["path"].startswith(f"{PLACE}/")
    return Response(status_code=WRONG if shown else HTTPStatus.NOT_FOUND)


def _endpoint(server: Server, handler: Handler, limiter: CapacityLimiter, most: int) -> Any:
    async def answer(request: Request) -> Response:
        try:
            body = await _body(request, most)
            waits = limiter.available_tokens < 1
            if limiter.statistics().tasks_waiting >= WAITING_MAX:
                return _refusal(server, request, BUSY)
            async with limiter:
                if waits and await request.is_disconnected():  # nothing is worked out for a caller who has left
                    return _refusal(server, request, LEFT)
                return await anyio.to_thread.run_sync(_answered, server, handler, request, body)
        except Refused as refused:
            return _refusal(server, request, refused)
        except ClientDisconnect:
            return _refusal(server, request, LEFT)
        except Exception:  # the store, the disk under the journal, or what nobody thought of: nothing of it is told
            log.exception("the request to %s could not be answered", call(request))
            return _refusal(server, request, FAILED)

    return answer


def _answered(server: Server, handler: Handler, request: Request, body: bytes) -> Response:
    """What a handler has nothing to tell of is noted all the same; what cannot be noted is not answered."""
    try:
        response = handler(server, request, body)
    except Refused as refused:
        server.keep_seen(request)
        server.note(request, **{"outcome": refused.error, "why": refused.description, **refused.facts})
        raise
    if handler not in DOCUMENTS and not server.noted(request):
        server.note(request, response.headers.get(HEADER, "shown"))
    return response


async def _body(request: Request, most: int) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise Refused("invalid_request", "the request is too long", status=413)
    return body


def userinfo(server: Server, request: Request, _body: bytes) -> Response:
    """OpenID Connect Core section 5.3; refusals in the words of RFC 6750 section 3."""
    refuse_foreign(request)
    with server.transaction(request, {}, writes=False) as connection:
        claims = tokens.bearer(server, connection, request, server.systems())
        if "openid" not in claims.scopes:
            raise tokens.unfit(Reason.SCOPE)
        told = {"sub": claims.subject}
        if "profile" in claims.scopes:
            login = claims.subject.removeprefix("user:")
            told |= {"name": _name(connection, claims.subject), "preferred_username": login}
    return JSONResponse(told, headers=NO_STORE)


def jwks(server: Server, _request: Request, _body: bytes) -> Response:
    """A client may keep them as long as `keys` counts on it that nobody keeps them longer."""
    with server.store.read() as connection:
        told = keys.published(connection)
    return JSONResponse(told, headers={"cache-control": f"public, max-age={keys.JWKS_LIFE_S}"})


def metadata(server: Server, _request: Request, _body: bytes) -> Response:
    """What metadata.toml says, and what the code goes by."""
    ways = ["client_secret_basic", "client_secret_post", *(way for way in clients.WAYS if way != clients.SECRET)]
    told = {
        **{name: f"{server.issuer}{path}" for name, path in METADATA["places"].items()},
        **METADATA["told"],
        "grant_types_supported": endpoint.GRANT_TYPES,
        "dpop_signing_alg_values_supported": list(ALGORITHMS),
        "acr_values_supported": asked.ACRS,
        "scopes_supported": sorted(clients.OIDC_SCOPES),
    }
    for name in ("token", "revocation", "introspection"):
        told[f"{name}_endpoint_auth_methods_supported"] = ways if name != "introspection" else ways[:-1]
        told[f"{name}_endpoint_auth_signing_alg_values_supported"] = list(ALGORITHMS)
    return JSONResponse(told)


def _name(connection: Connection, principal: str) -> str:
    return str(connection.execute(select(PRINCIPAL.c.name).where(PRINCIPAL.c.id == principal)).scalar_one())


DOCUMENTS: Final = (jwks, metadata, page.script)  # that everybody may read, and nobody has to ask for


def _refusal(server: Server, request: Request, refused: Refused) -> Response:
    if not server.noted(request):
        with suppress(OSError):  # nothing is given
            server.note(request, refused.error, why=refused.description)
    headers = dict(NO_STORE)
    if refused.status == HTTPStatus.UNAUTHORIZED:  # RFC 6749 section 5.2
        headers["www-authenticate"] = 'Basic realm="ostiary"'
    reason = next((one for one in Reason if one == refused.error), None)
    if reason or refused.error == "invalid_token":
        headers["www-authenticate"] = (reason or Reason.TOKEN_INVALID).challenge
    if refused.status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        headers["retry-after"] = refused.facts.get("retry_s", "1")
    if refused.error == USE_NONCE:
        headers["dpop-nonce"] = server.nonces.at(server.now())[0]
        headers |= {"www-authenticate": NONCE_ASKED} if refused.status == HTTPStatus.UNAUTHORIZED else {}
    unproved = Reason.TOKEN_UNBOUND if refused.error in {"invalid_dpop_proof", USE_NONCE} else None
    if said := reason or unproved or (Reason.CREDENTIAL_INVALID if refused.guessed else None):
        headers[HEADER] = str(said)
    if request.scope["path"].startswith("/identity/scim/"):
        return scim.failed(refused, headers)
    if reason:  # RFC 6750 section 3: the challenge says it
        return Response(status_code=refused.status, headers=headers)
    told = {"error": refused.error, "error_description": refused.description}
    return JSONResponse(told, refused.status, headers=headers)
