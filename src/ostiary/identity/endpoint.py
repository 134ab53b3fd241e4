"""The endpoints that a client's own credentials open: tokens, by all grants, also for another's token (RFC 8693); taken
back and looked at. An API key the gate shows here with every request, and goes on with a token of its client in its place.
"""

from http import HTTPStatus
from typing import Any, Final

from msgspec.structs import replace
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ostiary.audit.log import Change
from ostiary.foundation.api_key import KEY_PREFIX, WRONG
from ostiary.foundation.jose import Claims
from ostiary.foundation.secret import new_id
from ostiary.identity import clients, keys, tokens
from ostiary.identity.asked import redeem_device
from ostiary.identity.clients import DEVICE, Client
from ostiary.identity.principals import revoke_grant, revoke_token
from ostiary.identity.provisioning import opened
from ostiary.identity.request import Refused, Shown, form
from ostiary.identity.server import NO_STORE, Server

EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
GRANT_TYPES: Final = ("authorization_code", "client_credentials", "refresh_token", DEVICE, EXCHANGE)
SCIM: Final = "scim"  # the scope, and the whole of it
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  the name of a type
REVOKED_MAX: Final = 1000  # tokens of one client (a public one: from one address) in five minutes: the gate looks for each of them in every request
EXCHANGED_LIFE_S: Final = 300  # its first client may lose all it had: what was exchanged does not outlive that long
ACTORS_MAX: Final = 4
SERVES_S: Final = 30  # one token, for the requests of so many seconds: a signature less for each, at the gate too
SERVED_MAX: Final = 10_000
CLASS_HEADER: Final = "x-gw-class"  # begins with the system that the request goes to


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
    audience, scopes = server.settings.scim, frozenset({SCIM})
    if not _provisions(server, connection, client, told):
        audience, system = server.audience(told.get("resource", ""))
        asked = frozenset(told.get("scope", "").split())
        wanted = asked - clients.OIDC_SCOPES
        if asked and not wanted:  # nothing left would mean everything
            raise Refused("invalid_scope", "a client signs nobody in: ask for a scope of the system")
        scopes = clients.narrow(client, " ".join(wanted), system)
    claims = _own(server, connection, request, client, audience, scopes, bound)
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
    wanted = frozenset(told.get("scope", "").split()) - clients.UNANSWERED or scopes
    if not wanted <= scopes:
        raise Refused("invalid_scope", "more than was granted")
    claims = tokens.claims_for(server, connection, client, grant, request, scopes=wanted, bound=bound)
    signs = server.signing(connection)
    answer = tokens.answer(signs["access"], claims)
    answer["refresh_token"] = renewal.reveal()
    if "openid" in wanted:
        nonce = grant.nonce if kind == "authorization_code" else ""
        answer["id_token"] = tokens.id_token(
            signs[keys.purpose_of("id", client.id_token_alg)], claims, name=grant.name, nonce=nonce
        )
    return answer, claims


def _for_service(  # noqa: PLR0917  what the request shows
    server: Server, connection: Connection, request: Request, client: Client, told: dict[str, str], bound: str
) -> tuple[dict[str, Any], Claims]:
    """A token that allows no more than the subject's, and for no longer; it says who acts for whom."""
    for name, else_ in (("subject_token_type", ""), ("requested_token_type", ACCESS_TOKEN)):
        if told.get(name, else_) != ACCESS_TOKEN:
            raise Refused("invalid_request", f"the {name} is {ACCESS_TOKEN}")
    if "actor_token" in told:
        raise Refused("invalid_request", "the client that asks is the one that acts")
    subject = _subject(server, connection, client, told.get("subject_token", ""))
    scopes = _narrowed(server, client, subject, told)
    given = (subject.grant, subject.subject, subject.audience, subject.session)
    grant = tokens.Given(*given, subject.authenticated_at, " ".join(subject.amr))
    claims = tokens.claims_for(server, connection, client, grant, request, scopes=scopes, bound=bound)
    ends = min(claims.expires_at, subject.expires_at, claims.issued_at + EXCHANGED_LIFE_S)
    had = {"device": subject.device, "role_set": subject.role_set, "generation": subject.generation}
    claims = replace(claims, actor=_actor(client, subject), expires_at=ends, **had)
    answer = tokens.answer(server.signing(connection)["access"], claims)
    return {**answer, "issued_token_type": ACCESS_TOKEN}, claims


def _subject(server: Server, connection: Connection, client: Client, text: str) -> Claims:
    """The token of the person, which was given to a client whose tokens this one may exchange."""
    subject = tokens.read_access_token(server, connection, text)
    if subject is None or subject.bound or tokens.revoked(server, connection, subject):
        raise Refused("invalid_request", "the subject token is not valid, or is bound to a key")
    if client.public or subject.client not in {client.id, *client.exchange}:
        raise Refused("unauthorized_client", "this client may not exchange tokens of the one that it was given to")
    return subject


def _narrowed(server: Server, client: Client, subject: Claims, told: dict[str, str]) -> frozenset[str]:
    if told.get("resource", told.get("audience", subject.audience)) != subject.audience:
        raise Refused("invalid_target", "the subject's token is for another system")
    had = subject.scopes - clients.OIDC_SCOPES
    wanted = frozenset(told.get("scope", "").split()) or had
    if not wanted or not all(clients.covered(scope, had) for scope in wanted):  # nothing would mean everything
        raise Refused("invalid_scope", "more than the subject had")
    return clients.narrow(client, " ".join(wanted), server.audience(subject.audience)[1])


def _actor(client: Client, subject: Claims) -> dict[str, Any]:
    """Who acts now, and below him who acted before (RFC 8693 section 4.1)."""
    before, depth = subject.actor, 0
    while before:
        before, depth = before.get("act"), depth + 1
    if depth >= ACTORS_MAX:
        raise Refused("invalid_request", "it was exchanged too often")
    return {"sub": client.principal, **({"act": subject.actor} if subject.actor else {})}


GIVES: Final = {"client_credentials": _for_machine, EXCHANGE: _for_service}


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
            if not tokens.revoked(server, connection, claims):  # again: the gate may not know it yet
                clients.refuse_many(server, connection, request, client, REVOKED_MAX)
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


def show_key(server: Server, request: Request, _body: bytes) -> Response:
    """In `authorization` a token of the key's client, good for all that it may do at the system it calls."""
    with server.store.read() as connection:
        client = _by_key(server, connection, request)
        try:
            outcome, claims, token = _served(server, connection, request, client)
        except Refused as refused:
            raise _with_status(refused, HTTPStatus.SERVICE_UNAVAILABLE, client=client.id) from None
    server.note(request, outcome, client=client.id, subject=claims.subject, grant=claims.grant, jti=claims.jti)
    return Response(headers={"authorization": f"Bearer {token}"})


def _by_key(server: Server, connection: Connection, request: Request) -> Client:
    text = request.headers.get("authorization", "").partition(" ")[2]
    told = Shown(text.removeprefix(KEY_PREFIX).rpartition(".")[0], text)
    try:
        return clients.prove(server, connection, request, told, clients.AT_THE_GATE)
    except Refused as refused:
        raise _with_status(refused, WRONG) from None


def _served(server: Server, connection: Connection, request: Request, client: Client) -> tuple[str, Claims, str]:
    """A token with its claims, `issued` now or `served` again: one made a moment ago is good for what is still so."""
    clients.refuse_grant(client, "client_credentials")
    system, audience = _called(server, request)
    claims = _own(server, connection, request, client, audience, clients.allowed(client, system))
    key = server.signing(connection)["access"]
    alike = (key.kid, replace(claims, jti="", grant="", issued_at=0, expires_at=0))
    kept, token = server.keyed.get(alike, (None, ""))
    if kept and claims.issued_at < min(kept.issued_at + SERVES_S, kept.expires_at - tokens.SLACK_S):
        return "served", kept, token
    if len(server.keyed) >= SERVED_MAX:
        server.keyed.clear()
    token = tokens.answer(key, claims)["access_token"]
    server.keyed[alike] = (claims, token)
    return "issued", claims, token


def _called(server: Server, request: Request) -> tuple[str, str]:
    """The system that the request goes to, and its audience; of no system any: the gate wants a token before it says so."""
    system = request.headers.get(CLASS_HEADER, "").partition(":")[0]
    audiences = {name: audience for audience, name in server.systems().items()}
    return system, audiences.get(system) or next(iter(audiences.values()), "-")


def _with_status(refused: Refused, status: int, **facts: str) -> Refused:
    told = {**refused.told, **refused.facts, **facts, "status": status}
    return Refused(**told)


def _own(  # noqa: PLR0917  what a token is for
    server: Server, connection: Connection, request: Request, client: Client, audience: str, scopes: frozenset[str],
    bound: str = "",
) -> Claims:  # fmt: skip
    """What a token says by which a client acts for itself."""
    grant = tokens.Given(new_id("gr"), client.principal, audience)
    return tokens.claims_for(server, connection, client, grant, request, scopes=scopes, bound=bound)
