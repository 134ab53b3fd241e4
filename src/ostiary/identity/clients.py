"""Which client asks, how it proves it, and what it may ask for."""

import hmac
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from msgspec import Struct
from msgspec.json import decode
from msgspec.structs import asdict
from sqlalchemy import Connection, bindparam, select
from starlette.requests import Request

from ostiary.erp.operation import Pattern, Verb, operation_named
from ostiary.foundation.jose import TokenRefused
from ostiary.foundation.proof import AHEAD_S, PROOF_LIFE_S, USE_NONCE, registered, verify_assertion, verify_proof
from ostiary.identity import names, tries
from ostiary.identity.credentials import digest
from ostiary.identity.request import Refused, Shown, certificate, fingerprint, shown, site
from ostiary.identity.server import Server
from ostiary.store.tables import CLIENT, CLIENT_SECRET, PRINCIPAL, REGISTERED

NONE: Final = "none"  # a public client: it can keep no secret
SECRET: Final = "client_secret"  # noqa: S105  the way, and no secret
API_KEY: Final = "api_key"
FAPI2: Final = "fapi2"
DPOP: Final = "dpop"
CERTIFICATE: Final = "certificate"
DEVICE: Final = "urn:ietf:params:oauth:grant-type:device_code"
SELF_REGISTERED_GRANTS: Final = ("authorization_code", "refresh_token")  # of a client that registered itself
VERBS: Final = tuple(Verb)
# OpenID Connect's own that nothing here answers to: passed over (Core section 3.1.2.1).
UNANSWERED: Final = frozenset({"email", "address", "phone", "offline_access"})
OIDC_SCOPES: Final = frozenset({"openid", "profile"})
KEPT_MAX: Final = 300  # requests of one public client, kept for one address in five minutes
# The statement of every request is made once: to put one together takes as long as to carry it out (measured).
_CLIENT: Final = (
    select(CLIENT, PRINCIPAL.c.name, PRINCIPAL.c.generation, PRINCIPAL.c.made_at_us)
    .add_columns(CLIENT_SECRET.c.digest, REGISTERED.c.scopes.label("most"))
    .join(PRINCIPAL, PRINCIPAL.c.id == CLIENT.c.principal)
    .outerjoin(CLIENT_SECRET, CLIENT_SECRET.c.principal == CLIENT.c.principal)
    .outerjoin(REGISTERED, REGISTERED.c.principal == CLIENT.c.principal)
    .where(CLIENT.c.principal == bindparam("id"), PRINCIPAL.c.active)
)
_AS_READ: Final = (
    select(PRINCIPAL.c.id)
    .where(PRINCIPAL.c.id == bindparam("id"), PRINCIPAL.c.generation == bindparam("generation"), PRINCIPAL.c.active)
    .with_for_update(read=True)
)


class Terms(Struct, frozen=True, kw_only=True):
    """What was said of a client when it was registered: how it proves who it is, and what it may ask for."""

    auth: Literal[
        "client_secret", "private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth", "none", "api_key"
    ] = "client_secret"
    profile: Literal["oauth21", "fapi2"] = "oauth21"
    pkce: Literal["required", "optional", "off"] = "required"
    id_token_alg: Literal["ES256", "RS256"] = "ES256"  # noqa: S105  of its logout tokens too
    bound: Literal["", "dpop", "certificate"] = ""  # what its tokens must be bound to; "" where that is its own choice
    jwks: str = ""  # its own public keys
    backchannel_logout_uri: str = ""  # where it is told that a session has ended
    redirects: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()  # none: all that its roles may
    exchange: tuple[str, ...] = ()  # clients whose tokens it may exchange


class Client(Terms, frozen=True, kw_only=True):
    """`most`: the scopes that it may have, where it registered itself; None where an administrator registered it."""

    principal: str
    name: str
    generation: int
    made_at_us: int
    until_s: int  # then it ends
    most: str | None
    digests: tuple[str, ...]  # of its secrets

    @property
    def id(self) -> str:
        return self.principal.partition(":")[2]

    @property
    def self_registered(self) -> bool:
        return self.most is not None

    @property
    def public(self) -> bool:
        return self.auth == NONE


def find(connection: Connection, client_id: str) -> Client | None:
    """The active client of that id."""
    if not names.NAME.fullmatch(client_id):
        return None
    rows = connection.execute(_CLIENT, {"id": f"client:{client_id}"}).all()
    if not rows:
        return None
    row, digests = rows[0], tuple(one.digest for one in rows if one.digest)
    terms = asdict(decode(row.facts, type=Terms))
    own = {name: getattr(row, name) for name in ("name", "generation", "made_at_us", "until_s", "most")}
    return Client(**terms, **own, principal=row.principal, digests=digests)


def as_read(connection: Connection, client: Client) -> bool:
    """Whether the client is as it was when it was read; who changes it now waits, and then ends what is given meanwhile."""
    told = {"id": client.principal, "generation": client.generation}
    return connection.execute(_AS_READ, told).first() is not None


def authenticate(server: Server, connection: Connection, request: Request, form: Mapping[str, str]) -> Client:
    """The client that the request's credentials prove, in the one way that is registered for it."""
    return prove(server, connection, request, shown(request, form), WAYS)


def prove(server: Server, connection: Connection, request: Request, told: Shown, ways: Mapping[str, "Way"]) -> Client:
    """The client that `told` proves in its own way, where that is one of `ways`."""
    client = find(connection, told.client)
    if client is None:
        absent = _absent(connection, told.client)
        raise _unproved(told, known="client" in absent, **absent)
    if client.until_s <= server.now_s():
        raise _unproved(told, known=True, client=client.id, why=names.ENDED)
    if why := ways.get(client.auth, _elsewhere)(server, connection, client, told, request):
        raise _unproved(told, client=client.id, why=why)
    return client


def refuse_grant(client: Client, kind: str) -> None:
    """Who registered itself was told which there are for it (RFC 7591 section 3.2.1); nobody is sent a code for an
    application that has an address to come back to (RFC 8628 section 5.4).
    """
    if kind == DEVICE and client.redirects:
        raise Refused("unauthorized_client", "only a client without a redirect address is a device", client=client.id)
    if client.self_registered and kind not in SELF_REGISTERED_GRANTS:
        raise Refused("unauthorized_client", "a client that registered itself signs people in", client=client.id)


def refuse_many(server: Server, connection: Connection, request: Request, client: Client, most: int = 0) -> None:
    """Anybody can be a public client: what is kept for one is bounded for each address (RFC 9126 section 2.3).

    For any other where `most` is said. What has a bound of its own is counted by itself.
    """
    most = most or (KEPT_MAX if client.public else 0)
    place = tries.place_of(server.key, f"\0{client.id} {most}", site(request) if client.public else "")
    if most and (wait_s := tries.count(connection, place, server.now_s(), most)):
        many = f"this client asks for too much; try again in {wait_s} s"
        raise Refused("temporarily_unavailable", many, status=429, client=client.id, retry_s=str(wait_s))


def _unproved(told: Shown, *, known: bool = False, **facts: str) -> Refused:
    """The same for every caller; `facts` are for the journal. Of a `known` client that gets nothing nobody guesses."""
    why = "the client is not known or does not prove who it is in the way registered for it"
    guessed = bool(told.secret or told.assertion) and not known
    return Refused("invalid_client", why, status=401, guessed=guessed, **facts)


def _absent(connection: Connection, client_id: str) -> dict[str, str]:
    """A name that no client has is not kept: it may be a secret, sent in the wrong field."""
    known = select(PRINCIPAL.c.id).where(PRINCIPAL.c.id == f"client:{client_id}")
    if names.NAME.fullmatch(client_id) and connection.scalar(known):
        return {"client": client_id, "why": names.DISABLED}
    return {"why": "no such client"}


def _elsewhere(_server: Server, _: Connection, _client: Client, _told: Shown, _request: Request) -> str:
    return "this client proves itself in another way than here"


def _by_nothing(_server: Server, _: Connection, _client: Client, told: Shown, _request: Request) -> str:
    return "a public client shows nothing" if told.secret or told.assertion else ""


def _by_secret(server: Server, _: Connection, client: Client, told: Shown, _request: Request) -> str:
    digested = digest(server.key, "client-secret", client.principal, told.secret)
    if any([hmac.compare_digest(digested, one) for one in client.digests]):  # noqa: C419  every one, in equal time
        return ""
    what = "API key" if client.auth == API_KEY else "client secret"
    return f"wrong {what}" if told.secret else f"no {what}"


def _by_assertion(server: Server, connection: Connection, client: Client, told: Shown, request: Request) -> str:
    """private_key_jwt. Outside fapi2 many clients name the endpoint as audience (RFC 7523 section 3)."""
    if not told.assertion:
        return "no assertion"
    places = [server.url(request), f"{server.issuer}/token"]  # RFC 9126 section 2: at PAR the token endpoint counts too
    audiences = [server.issuer, *([] if client.profile == FAPI2 else places)]
    facts: dict[str, Any] = {"client": client.id, "audiences": audiences, "now": server.now()}
    try:
        one = verify_assertion(told.assertion, client.jwks, **facts)
    except TokenRefused as refused:
        return refused.message
    life_s = int(one.exp) - server.now_s() + AHEAD_S
    fresh = server.seen_first(connection, request, "assertion", f"{client.id} {one.jti}", life_s)
    return "" if fresh else "the assertion was used before"


def _by_authority(server: Server, _: Connection, client: Client, told: Shown, request: Request) -> str:
    """tls_client_auth: one of the last certificates that our own authority gave this client (RFC 8705 section 2.1)."""
    found = certificate(request)
    if told.secret or told.assertion or found is None:
        return "no certificate, or more than that"
    try:
        found.verify_directly_issued_by(x509.load_pem_x509_certificate((server.home.keys / "ca.crt").read_bytes()))
    except (ValueError, TypeError, InvalidSignature):
        return "the certificate is not by our authority"
    if not found.not_valid_before_utc <= server.now() <= found.not_valid_after_utc:
        return "the certificate has lapsed"
    return "" if registered(found.public_key(), client.jwks) else "the certificate is not this client's present one"


def _by_key(_server: Server, _: Connection, client: Client, told: Shown, request: Request) -> str:
    """self_signed_tls_client_auth: of the certificate the key alone counts (RFC 8705 section 2.2)."""
    found = certificate(request)
    if told.secret or told.assertion or found is None:
        return "no certificate, or more than that"
    return "" if registered(found.public_key(), client.jwks) else "the certificate's key is not registered"


Way = Callable[[Server, Connection, Client, Shown, Request], str]
# How a client proves who it is: "", or why it does not.
WAYS: Final[Mapping[str, Way]] = {
    SECRET: _by_secret,
    "private_key_jwt": _by_assertion,
    "tls_client_auth": _by_authority,
    "self_signed_tls_client_auth": _by_key,
    NONE: _by_nothing,
}
AT_THE_GATE: Final[Mapping[str, Way]] = {API_KEY: _by_secret}  # in place of a token


def binding(server: Server, connection: Connection, request: Request, client: Client) -> str:
    """What a token given here is bound to: "jkt:<thumbprint>" by a DPoP proof, "x5t:<hex>" by a certificate, or ""."""
    proofs = request.headers.getlist("dpop")
    if proofs and client.bound == CERTIFICATE:
        raise Refused("invalid_dpop_proof", "this client's tokens are bound to its certificate: show that alone")
    if proofs or client.bound == DPOP:
        return f"jkt:{_proved(server, connection, request, proofs)}"
    if client.bound != CERTIFICATE:
        return ""
    if not fingerprint(request):
        raise Refused("invalid_request", "this client's tokens are bound to its certificate: show it")
    return f"x5t:{fingerprint(request)}"


def _proved(server: Server, connection: Connection, request: Request, proofs: list[str], token: str = "") -> str:
    if len(proofs) != 1:
        raise Refused("invalid_dpop_proof", "show one DPoP proof")
    urls, now = [server.url(request)], server.now()
    try:
        proof = verify_proof(proofs[0], method=request.method, urls=urls, now=now, token=token)
    except TokenRefused as refused:
        raise Refused("invalid_dpop_proof", refused.message) from None
    if server.nonces.lacks(proof, now):
        told = "put the nonce of the answer's DPoP-Nonce header into the proof"
        raise Refused(USE_NONCE, told, status=401 if token else 400)
    if not server.seen_first(connection, request, "dpop", f"{proof.key} {proof.jti}", PROOF_LIFE_S + AHEAD_S + 1):
        raise Refused("invalid_dpop_proof", "the proof was used before")
    return proof.key


def holds(server: Server, connection: Connection, request: Request, token: str, bound: str) -> bool:
    """Whether who shows this access token holds what it is bound to; a bound one is never a bearer's."""
    scheme = request.headers.get("authorization", "").partition(" ")[0].lower()
    kind, _, value = bound.partition(":")
    if kind == "jkt":
        proofs = request.headers.getlist("dpop")
        return scheme == "dpop" and _proved(server, connection, request, proofs, token) == value
    return scheme == "bearer" and (not kind or fingerprint(request) == value)


def redirect_known(client: Client, redirect: str) -> bool:
    return any(names.same_redirect(one, redirect) for one in client.redirects)


def narrow(client: Client, asked: str, system: str) -> frozenset[str]:
    """What of `asked` the client may have at `system`; all it may, when no scope is asked for (RFC 6749 section 3.3)."""
    wanted, most = frozenset(asked.split()) - UNANSWERED, allowed(client, system)
    if odd := sorted(scope for scope in wanted - OIDC_SCOPES if not covered(scope, most)):
        why = f"{len(odd)} of the scopes may not be asked for by this client"
        raise Refused("invalid_scope", why, client=client.id, sent=" ".join(odd))
    told = wanted or (frozenset() if asked else most)
    if not told:
        raise Refused("invalid_scope", "this client may ask for nothing at this system")
    return told


def allowed(client: Client, system: str) -> frozenset[str]:
    """The scopes that the client may have at `system`: everything, where none at all was said."""
    here = frozenset(scope for scope in client.scopes if scope.startswith(f"{system}/"))
    return here if client.scopes else frozenset(f"{system}/*:{verb}" for verb in VERBS)


def scope_of(server: Server, client: Client, given: Mapping[str, str]) -> dict[str, str]:
    """The columns of a grant that say what the client asks for."""
    audience, system = server.audience(given.get("resource", ""))
    scopes = narrow(client, given.get("scope", ""), system)
    return {"client": client.principal, "audience": audience, "scopes": " ".join(sorted(scopes))}


def in_words(scopes: Iterable[str]) -> tuple[list[str], list[str]]:
    """The systems of which a client asks for everything, which is what the person's roles allow; and the other scopes."""
    asked = set(scopes)
    systems = sorted({scope.partition("/")[0] for scope in asked - OIDC_SCOPES})
    whole = {system: {f"{system}/*:{verb}" for verb in VERBS} for system in systems}
    everything = [system for system in systems if whole[system] <= asked]
    return everything, sorted(asked.difference(*(whole[system] for system in everything)))


def covered(scope: str, most: Iterable[str]) -> bool:
    """`erp/sale.*:read` covers `erp/sale.sale:read` and `erp/sale.line.*:read`."""
    return names.SCOPE.fullmatch(scope) is not None and any(_pattern(scope).within(_pattern(one)) for one in most)


def _pattern(scope: str) -> Pattern:
    named = operation_named(scope)
    assert named is not None, "what is kept of a client, and what has a scope's form, names a verb"
    return named.pattern
