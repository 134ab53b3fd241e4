"""The endpoints that a client's own credentials open: tokens, taken back and looked at; pushed requests."""

from typing import Any, Final

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ostiary.audit.log import Change
from ostiary.foundation.jose import Claims
from ostiary.foundation.secret import new_id
from ostiary.identity import clients, tokens
from ostiary.identity.asked import redeem_device
from ostiary.identity.clients import Client
from ostiary.identity.exchange import exchange
from ostiary.identity.principals import revoke_grant, revoke_token
from ostiary.identity.provisioning import opened
from ostiary.identity.request import Refused, form
from ostiary.identity.server import NO_STORE, Server

DEVICE: Final = "urn:ietf:params:oauth:grant-type:device_code"
EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
GRANT_TYPES: Final = ("authorization_code", "client_credentials", "refresh_token", DEVICE, EXCHANGE)
SCIM: Final = "scim"  # the scope, and the whole of it


def token(server: Server, request: Request, body: bytes) -> Response:
    told = form(request, body)
    kind = told.get("grant_type", "")
    if kind not in GRANT_TYPES:
        raise Refused("unsupported_grant_type" if kind else "invalid_request", "the grant type is not known")
    try:
        with server.transaction(request, told, writes=kind != "client_credentials") as connection:
            client = clients.authenticate(server, connection, request, told)
            clients.refuse_grant(client, kind)
            bound = clients.binding(server, connection, request, client)
            give = GIVES.get(kind, _for_person)
            answer, claims = give(server, connection, request, client, told, bound)
    except tokens.Replayed as replayed:
        _take_back(server, replayed)
        gone = "it was used before; everything it gave is revoked"
        facts: dict[str, Any] = {"outcome": "replayed", "client": client.id, "grant": replayed.grant}
        raise Refused("invalid_grant", gone, guessed=True, **facts) from None
    server.note(request, "issued", client=client.id, subject=claims.subject, grant=claims.grant, jti=claims.jti)
    return JSONResponse(answer, headers=NO_STORE)


def _for_machine(  # noqa: PLR0917  what the request shows
    server: Server, connection: Connection, request: Request, client: Client, told: dict[str, str], bound: str
) -> tuple[dict[str, Any], Claims]:
    if client.public:
        raise Refused("unauthorized_client", "a public client has no credentials of its own")
    if _provisions(server, connection, client, told):
        return _own(server, connection, request, client, server.settings.scim, frozenset({SCIM}), bound=bound)
    audience, system = server.audience(told.get("resource", ""))
    asked = frozenset(told.get("scope", "").split())
    wanted = asked - clients.OIDC_SCOPES
    if asked and not wanted:  # nothing left would mean everything
        raise Refused("invalid_scope", "a client signs nobody in: ask for a scope of the system")
    scopes = clients.narrow(client, " ".join(wanted), system)
    return _own(server, connection, request, client, audience, scopes, bound=bound)


def _own(  # noqa: PLR0917  what a token is for
    server: Server, connection: Connection, request: Request, client: Client, audience: str, scopes: frozenset[str], *,
    bound: str,
) -> tuple[dict[str, Any], Claims]:  # fmt: skip
    """A token by which a client acts for itself."""
    grant = tokens.Given(new_id("gr"), client.principal, client.principal, audience)
    claims = tokens.claims_for(server, connection, grant, request, scopes=scopes, bound=bound)
    return tokens.answer(server.signing(connection)["access"], claims), claims


def _provisions(server: Server, connection: Connection, client: Client, told: dict[str, str]) -> bool:
    """Whether it is to have a token for SCIM: also where it names nothing, as directories do."""
    place, scope = server.settings.scim, told.get("scope", SCIM)
    return opened(connection, client.principal) is not None and (told.get("resource", place), scope) == (place, SCIM)


def _for_person(  # noqa: PLR0917  what the request shows
    server: Server, connection: Connection, request: Request, client: Client, told: dict[str, str], bound: str
) -> tuple[dict[str, Any], Claims]:
    kind = told["grant_type"]
    if kind == DEVICE:
        grant, renewal = redeem_device(server, connection, request, client, told.get("device_code", ""), bound)
    elif kind == "authorization_code":
        code, redirect, verifier = (told.get(name, "") for name in ("code", "redirect_uri", "code_verifier"))
        shown = {"code": code, "redirect": redirect, "verifier": verifier, "bound": bound}
        grant, renewal = tokens.redeem(server.drawer(connection, "code"), client, **shown)
    else:
        text = told.get("refresh_token", "")
        grant, renewal = tokens.refresh(connection, server.key, server.now_s(), client, text, bound)
    if told.get("resource", grant.audience) != grant.audience:
        raise Refused("invalid_target", "the grant is for another system")
    scopes = frozenset(grant.scopes.split())
    wanted = frozenset(told.get("scope", "").split()) or scopes
    if not wanted <= scopes:
        raise Refused("invalid_scope", "more than was granted")
    claims = tokens.claims_for(server, connection, grant, request, scopes=wanted, bound=bound)
    signs = server.signing(connection)
    answer = tokens.answer(signs["access"], claims)
    answer["refresh_token"] = renewal.reveal()
    if "openid" in wanted:
        nonce = grant.nonce if kind == "authorization_code" else ""
        answer["id_token"] = tokens.id_token(signs["id"], claims, name=grant.name, nonce=nonce)
    return answer, claims


GIVES: Final = {"client_credentials": _for_machine, EXCHANGE: exchange}


def _take_back(server: Server, replayed: tokens.Replayed) -> None:
    """Everything the grant gave is revoked, in a transaction that stays."""
    with server.store.begin() as connection:
        change = Change(connection, "ostiary", server.now())
        gone = revoke_grant(change, grant=replayed.grant, reason="a one-time token came twice")
    server.take_back(gone)


def revoke(server: Server, request: Request, body: bytes) -> Response:
    """RFC 7009: 200 whatever it was; only the client's own tokens go."""
    told = form(request, body)
    text = _named(told)
    gone: tuple[str, ...] = ()
    with server.store.begin() as connection:
        client = clients.authenticate(server, connection, request, told)
        change = Change(connection, client.principal, server.now())
        if grant := tokens.of_refresh(connection, server.key, client, text):
            gone = revoke_grant(change, grant=grant.id, reason="revoked by its client")
        elif (claims := tokens.read_access_token(server, connection, text)) and claims.client == client.id:
            gone = revoke_token(change, jti=claims.jti, reason="revoked by its client")
    server.note(request, "done", client=client.id, keys=" ".join(gone))
    server.take_back(gone)
    return Response(headers=NO_STORE)


def introspect(server: Server, request: Request, body: bytes) -> Response:
    """RFC 7662, for a client that can prove who it is, of its own tokens: of any other it learns nothing."""
    told = form(request, body)
    text = _named(told)
    with server.transaction(request, told, writes=False) as connection:
        client = clients.authenticate(server, connection, request, told)
        if client.public:
            raise Refused("invalid_client", "a public client proves nothing", status=401)
        found = _looked_at(server, connection, client, text)
    server.note(request, "active" if found else "inactive", client=client.id)
    return JSONResponse({"active": bool(found), **found}, headers=NO_STORE)


def _looked_at(server: Server, connection: Connection, client: Client, text: str) -> dict[str, Any]:
    """What the token says, where it is the client's and good; else nothing."""
    if grant := tokens.of_refresh(connection, server.key, client, text):
        live = not grant.superseded_at_s and not grant.revoked and grant.expires_at_s > server.now_s()
        told = {"client_id": client.id, "sub": grant.principal, "scope": grant.scopes, "exp": grant.expires_at_s}
        return {**told, "aud": grant.audience, "iss": server.issuer} if live else {}
    claims = tokens.read_access_token(server, connection, text)
    if claims is None or claims.client != client.id or tokens.revoked(server, connection, claims):
        return {}
    return tokens.told_of(claims)


def _named(told: dict[str, str]) -> str:
    if "token" not in told:
        raise Refused("invalid_request", "name the token")
    return told["token"]
