"""What a person is asked: a client's authorization request, checked in the order of RFC 6749 section 4.1.2.1; a device's,
which shows a code on its screen that a person enters elsewhere (RFC 8628); or only who he is, for his own account.
"""

import hmac
import re
import secrets
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ostiary.foundation.secret import Secret
from ostiary.identity import clients, tokens
from ostiary.identity.clients import DEVICE, FAPI2, Client
from ostiary.identity.credentials import digest, new_secret
from ostiary.identity.request import QUERY_MAX_BYTES, Refused, form, parse
from ostiary.identity.server import NO_STORE, Server
from ostiary.plan.model import MFA

ACRS: Final = (MFA, "pwd")  # how a person may be asked to sign in, the surer way first
PUSHED: Final = "urn:ietf:params:oauth:request_uri:"  # how the name of a pushed request begins (RFC 9126)
PUSHED_LIFE_S: Final = 300  # a person may take so long to sign in
CREDENTIALS: Final = frozenset({"client_secret", "client_assertion", "client_assertion_type"})
AGE: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
HASH: Final = re.compile(r"[A-Za-z0-9_-]{43}")  # base64url of a SHA-256
PROMPTS: Final = frozenset({"none", "login", "consent", "select_account"})
FRESH: Final = frozenset({"login", "select_account"})
ACCOUNT: Final = b"\0account"  # as no query begins that anybody can send
AT_DEVICE: Final = b"\0device"
WAITING: Final = "device"
DEVICE_LIFE_S: Final = 600
POLL_S: Final = 5
LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"  # no words, nothing to mistake (RFC 8628 section 6.1): 34 bits
CODE_LENGTH: Final = 8
TYPED_MAX_CHARS: Final = 20
DENIED: Final = "denied"  # in place of the grant


class Asked(NamedTuple):
    """A request whose client and redirect are known good; `problem` goes back to the client.

    Without a client it is for the person's own account.
    """

    text: bytes
    client: Client | None = None
    redirect: str = ""
    state: str = ""
    problem: Refused | None = None
    values: Mapping[str, Any] = MappingProxyType({})
    challenge: str = ""
    silent: bool = False  # prompt=none: no page
    fresh: bool = False  # the person shows the password again
    anew: bool = False  # prompt=consent: he is asked again
    age_max_s: int | None = None  # or at least where the last time is longer ago than this
    mfa: bool = False  # by more than one factor
    pushed: str = ""  # the name of the pushed request that it is
    user_code: str = ""  # of the device that waits for the answer
    act: Mapping[str, str] = MappingProxyType({})  # what he changes at his own account

    @property
    def terms(self) -> str:
        """What a person is shown of the client, which may change itself while he reads it."""
        one = self.client
        return f"{one.principal} {one.generation} {self.values.get('scopes')} {one.name}" if one else ""

    @property
    def by(self) -> str:
        """Who asks, for the journal."""
        return self.client.id if self.client else "-"


def read(server: Server, connection: Connection, text: bytes) -> Asked:
    """The request in `text`, or the one that it names; raises Refused only while nobody may be redirected to.

    A client's is its query; what is asked at our own pages begins as no query can: whoever guesses codes is counted there.
    """
    place, _, told = text.partition(b"?")
    given = parse(told if place in {ACCOUNT, AT_DEVICE} else text, max_bytes=QUERY_MAX_BYTES)
    if place == ACCOUNT:
        return Asked(text, act=given, fresh=bool(given))
    if place == AT_DEVICE:
        return _of_device(server, connection, text, given.get("user_code", ""))
    client = clients.find(connection, given.get("client_id", ""))
    pushed = given.get("request_uri", "")
    if client and pushed.startswith(PUSHED):
        given = _pushed(server, connection, client, pushed)
    redirect = given.get("redirect_uri", "")
    if client is None or client.until_s <= server.now_s() or not clients.redirect_known(client, redirect):
        sent = f"client_id={given.get('client_id')} redirect_uri={redirect.partition('?')[0]}"
        raise Refused("invalid_request", "the client or its redirect address is not registered", sent=sent)
    problem, values = None, {}
    try:
        _refuse_unpushed(client, pushed)
        values = _checked(server, client, given)
    except Refused as refused:
        problem = refused
    prompts, acrs = set(given.get("prompt", "").split()), set(given.get("acr_values", "").split()) & set(ACRS)
    return Asked(
        text, client, redirect, given.get("state", ""), problem, values, given.get("code_challenge", ""),
        silent="none" in prompts, fresh=bool(prompts & FRESH), anew="consent" in prompts, mfa=acrs == {MFA},
        age_max_s=int(given["max_age"]) if problem is None and "max_age" in given else None, pushed=pushed,
    )  # fmt: skip


def _of_device(server: Server, connection: Connection, text: bytes, code: str) -> Asked:
    kept = server.drawer(connection, WAITING).look(_plain(code))
    waits = kept and not kept.grant and not kept.used
    client = clients.find(connection, kept.client.partition(":")[2]) if kept and waits else None
    if kept is None or client is None:
        raise Refused("invalid_request", "no device waits with this code; look at its screen again")
    values = clients.scope_of(server, client, kept.facts)  # what it may now
    return Asked(text, client, values={**values, "nonce": "", "bound": ""}, user_code=_written(code))


def _refuse_unpushed(client: Client, pushed: str) -> None:
    if client.profile == FAPI2 and not pushed:
        raise Refused("invalid_request", "this client pushes its requests first")


def _pushed(server: Server, connection: Connection, client: Client, uri: str) -> dict[str, str]:
    kept = server.drawer(connection, "pushed").look(uri)
    if kept is None or kept.used or kept.client != client.principal:
        raise Refused("invalid_request", "this request was used or has lapsed; start again where you came from")
    return dict(kept.facts["asked"])


def _checked(server: Server, client: Client, given: dict[str, str]) -> dict[str, Any]:
    if given.get("response_type") != "code":
        raise Refused("unsupported_response_type", "only response_type=code is known")
    if {"request", "request_uri"} & set(given):
        raise Refused("request_not_supported", "request objects are not supported")
    if given.get("response_mode", "query") != "query":
        raise Refused("invalid_request", "only response_mode=query is known")
    prompts = set(given.get("prompt", "").split())
    if prompts - PROMPTS or ("none" in prompts and len(prompts) > 1):
        raise Refused("invalid_request", "the prompt is not known")
    if not AGE.fullmatch(given.get("max_age", "0")):
        raise Refused("invalid_request", "max_age is a number of seconds")
    if "acr_values" in given and not set(ACRS) & set(given["acr_values"].split()):  # RFC 9470 section 5
        raise Refused("unmet_authentication_requirements", f"people sign in by {' or '.join(ACRS)} here")
    _refuse_unsafe_code(client, given)
    if "dpop_jkt" in given and not HASH.fullmatch(given["dpop_jkt"]):
        raise Refused("invalid_request", "dpop_jkt is the thumbprint of a key")
    bound = f"jkt:{given['dpop_jkt']}" if "dpop_jkt" in given else ""
    return {**clients.scope_of(server, client, given), "nonce": given.get("nonce", ""), "bound": bound}


def _refuse_unsafe_code(client: Client, given: Mapping[str, str]) -> None:
    """RFC 7636 section 4.4.1: plain, and a missing method, which means plain, are refused.

    A client that may do without PKCE shows that it looks at the nonce in its place (OAuth 2.1 section 7.5.1), but for one
    that certifies this server: OpenID Connect's own tests send neither.
    """
    if client.pkce != "required" and not {"code_challenge", "code_challenge_method"} & set(given):
        if client.pkce == "optional" and ("nonce" not in given or "openid" not in given.get("scope", "").split()):
            raise Refused("invalid_request", "without PKCE send a nonce, and ask for the scope openid")
    elif given.get("code_challenge_method") != "S256" or not HASH.fullmatch(given.get("code_challenge", "")):
        raise Refused("invalid_request", "PKCE with S256 is required")


def push(server: Server, request: Request, body: bytes) -> Response:
    """RFC 9126: keeps an authorization request, of a client that has proved who it is, for one sign-in."""
    told = form(request, body)
    with server.store.begin() as connection:
        client = clients.authenticate(server, connection, request, told)
        clients.refuse_many(server, connection, request, client)
    with server.store.begin() as connection:  # another one: what is refused counts too
        if request.headers.get("dpop"):
            bound = clients.binding(server, connection, request, client).removeprefix("jkt:")
            if told.setdefault("dpop_jkt", bound) != bound:
                raise Refused("invalid_dpop_proof", "dpop_jkt names another key than the proof")
        wanted = {name: value for name, value in told.items() if name not in CREDENTIALS} | {"client_id": client.id}
        if not clients.redirect_known(client, wanted.get("redirect_uri", "")):
            raise Refused("invalid_request", "the redirect address is not registered")
        _checked(server, client, wanted)
        uri = f"{PUSHED}{new_secret().reveal()}"
        server.drawer(connection, "pushed").keep(uri, PUSHED_LIFE_S, client=client.principal, asked=wanted)
    server.note(request, "kept", client=client.id)
    return JSONResponse({"request_uri": uri, "expires_in": PUSHED_LIFE_S}, 201, headers=NO_STORE)


def begin_device(server: Server, request: Request, body: bytes) -> Response:
    """The device's code, and the one for the person."""
    told = form(request, body)
    with server.store.begin() as connection:
        client = clients.authenticate(server, connection, request, told)
        clients.refuse_grant(client, DEVICE)
        clients.refuse_many(server, connection, request, client)
    with server.store.begin() as connection:
        clients.scope_of(server, client, told)  # raises for what it may not ask for
        code = "".join(secrets.choice(LETTERS) for _ in range(CODE_LENGTH))
        text = f"{new_secret().reveal()}.{code}"
        wanted = {name: told[name] for name in ("scope", "resource") if name in told}
        proof = digest(server.key, "device-code", text)
        server.drawer(connection, WAITING).keep(code, DEVICE_LIFE_S, client=client.principal, proof=proof, **wanted)
    server.note(request, "kept", client=client.id)
    place, shown = f"{server.issuer}/device", _written(code)
    answer = {"device_code": text, "user_code": shown, "verification_uri": place, "interval": POLL_S}
    more = {"verification_uri_complete": f"{place}?user_code={shown}", "expires_in": DEVICE_LIFE_S}
    return JSONResponse({**answer, **more}, headers=NO_STORE)


def decide_device(server: Server, connection: Connection, code: str, grant: str = DENIED) -> bool:
    """The person's answer, the first one alone."""
    return server.drawer(connection, WAITING).fill(_plain(code), grant)


def redeem_device(  # noqa: PLR0917  what the request shows
    server: Server, connection: Connection, request: Request, client: Client, text: str, bound: str
) -> tuple[Row[Any], Secret]:
    """The grant that the person gave, once; raises Refused in the words of RFC 8628 section 3.5."""
    drawer, code = server.drawer(connection, WAITING), text.rpartition(".")[2]
    kept = drawer.look(code)
    proof = digest(server.key, "device-code", text)
    mine = kept is not None and kept.client == client.principal
    if kept is None or not mine or not hmac.compare_digest(proof, kept.facts["proof"]):
        raise Refused("expired_token", "there is no such code, or it has lapsed; begin again", guessed=True)
    if not server.seen_first(connection, request, "device-poll", text, POLL_S):
        raise Refused("slow_down", f"ask every {POLL_S} seconds")
    if not kept.grant:
        raise Refused("authorization_pending", "nobody has entered the code yet")
    if kept.grant == DENIED:
        raise Refused("access_denied", "the person said no")
    if drawer.use(code) is None:
        raise tokens.Replayed(kept.grant)
    return tokens.opened(drawer, client, kept.grant, bound)


def _plain(code: str) -> str:
    """However a person writes it."""
    return "".join(letter for letter in code.upper()[:TYPED_MAX_CHARS] if letter in LETTERS)


def _written(code: str) -> str:
    """As the device shows it."""
    text = _plain(code)
    return f"{text[:4]}-{text[4:]}"
