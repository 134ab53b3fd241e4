"""Clients as administrators register them, and as they register themselves (RFC 7591, 7592), each by an initial access
token that an administrator gave out: how each proves who it is, and what it may ask for.
"""

import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from msgspec import Meta, Struct, convert, to_builtins
from msgspec.json import decode, encode
from msgspec.structs import asdict, replace
from sqlalchemy import Connection, delete, func, insert, select, update
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ostiary.audit.log import Change
from ostiary.foundation.api_key import KEY_PREFIX, SECRET_PREFIX
from ostiary.foundation.clock import to_us
from ostiary.foundation.errors import CallerFault
from ostiary.foundation.jose import RS256, TokenRefused
from ostiary.foundation.proof import usable_jwks, with_key
from ostiary.foundation.secret import Secret, new_id
from ostiary.identity import clients, keys, names, principals
from ostiary.identity.clients import API_KEY, CERTIFICATE, DPOP, FAPI2, NONE, OIDC_SCOPES, SECRET, Client, Terms
from ostiary.identity.credentials import Drawer, derived, digest, new_secret, pepper
from ostiary.identity.principals import Keys, add, end
from ostiary.identity.provisioning import Lent
from ostiary.identity.request import Refused, bearer, query, read_json, refuse_foreign
from ostiary.identity.server import NO_STORE, Server
from ostiary.store.database import Sealer
from ostiary.store.tables import CLIENT, CLIENT_SECRET, ONE_TIME, PRINCIPAL, REGISTERED

BY_DIGEST: Final = (SECRET, API_KEY)  # ways to prove oneself by what we keep a digest of
BY_TLS: Final = frozenset({"tls_client_auth", "self_signed_tls_client_auth"})
BY_JWKS: Final = frozenset({"private_key_jwt", "self_signed_tls_client_auth"})
LIVE_SECRETS: Final = 2
DAYS, DAYS_MAX = 365, 1_095  # that a client lasts, unless said otherwise, and at most
DAY_S: Final = 86_400
KEYS_HINT: Final = "give its public keys with --keys FILE (a JWKS, RFC 7517)"
NO_USE_TO_KEYS: Final = ("bound", "redirects", "exchange", "backchannel_logout_uri")
OTHERWISE: Final[Mapping[str, str]] = {  # what is changed in place of a secret, or of keys
    "tls_client_auth": "`ostiary client certificate {}` gives it another certificate",
    NONE: "a public client proves itself by nothing; see `ostiary client show {}`",
}
INITIAL: Final = "initial-access"
BY: Final = "registration:"  # whoever registers acts by that name
REGISTERED_MAX: Final = 1_000  # clients that registered themselves, in all
TITLE_MAX_CHARS: Final = 80  # a host stands behind it
UNFIT: Final = "invalid_client_metadata"
Scopes = Annotated[list[str], Meta(min_length=1)]  # none would mean everything
Count = Annotated[int, Meta(ge=1, le=100)]
Days = Annotated[int, Meta(ge=1, le=DAYS_MAX)]
Auth = Literal["client_secret_basic", "client_secret_post", "private_key_jwt", "self_signed_tls_client_auth", "none"]


class Made(NamedTuple):
    """A new or renewed client; the secret is shown once."""

    id: str
    secret: Secret | None


def add_client(
    change: Change, *, sealer: Sealer, client_id: str, name: str = "", roles: Sequence[str] = (), person: str = "",
    days: int = DAYS, **told: Annotated[Any, Terms],
) -> Made:  # fmt: skip
    """Makes `client:<id>`; one that proves itself by a secret or an API key gets it."""
    terms, until_s = _fit(change, sealer, Terms(), told), _until(change, days)
    more = {**to_builtins(terms), "until": principals.end_stamp(until_s)}
    principal = add(change, "client", client_id, name, person, roles=roles, more=more)
    change.connection.execute(insert(CLIENT).values(principal=principal, until_s=until_s, **_row(terms)))
    return Made(principal, _add_secret(change, sealer, principal, terms.auth) if terms.auth in BY_DIGEST else None)


def change_client(
    change: Change, *, sealer: Sealer, client_id: str, name: str = "", person: str = "", days: int | None = None,
    **told: Annotated[Any, Terms],
) -> Keys:  # fmt: skip
    """What is given is changed; but for name, person and a later end, what it was given before ends, and secrets that
    it has no use for.
    """
    principal = f"client:{client_id}"
    names.refuse_text(name=name)
    kept, before = _kept(change, principal), principals.one(change.connection, principal)
    terms = _fit(change, sealer, kept, told)
    row, ends = _row(terms), terms != kept
    whole = json.loads(row["facts"])
    if days is not None:
        row["until_s"] = _until(change, days)
        whole["until"] = principals.end_stamp(row["until_s"])
        ends = ends or whole["until"] < before["until"]
    change.connection.execute(update(CLIENT).where(CLIENT.c.principal == principal).values(row))
    if "scopes" in told and change.actor != principal:  # else one that registered itself would take them back
        most = update(REGISTERED).where(REGISTERED.c.principal == principal)
        change.connection.execute(most.values(scopes=" ".join(terms.scopes)))
    if terms.auth != kept.auth:
        change.connection.execute(delete(CLIENT_SECRET).where(CLIENT_SECRET.c.principal == principal))
    named = {"name": name, "person": person}
    titled = {what: value for what, value in named.items() if value and value != before[what]}
    if titled:
        change.connection.execute(update(PRINCIPAL).where(PRINCIPAL.c.id == principal).values(titled))
    after = {what: value for what, value in {**titled, **whole}.items() if value != before.get(what)}
    change.note("client.change", principal, before={what: before.get(what) for what in after}, after=after)
    return end(change, principal, "client changed") if ends else ()


def rotate_secret(change: Change, *, sealer: Sealer, client_id: str) -> Made:
    """A second secret; of more than two the oldest goes."""
    principal = f"client:{client_id}"
    auth = _kept(change, principal).auth
    if auth not in BY_DIGEST:
        hint = OTHERWISE.get(auth, "`ostiary client change {} --keys FILE` gives it other keys").format(client_id)
        raise CallerFault("no-secret", f"{principal} has no secret", hint=hint)
    mine = select(CLIENT_SECRET.c.digest).where(CLIENT_SECRET.c.principal == principal)
    old = list(change.connection.scalars(mine.order_by(CLIENT_SECRET.c.made_at_us.desc())))
    change.connection.execute(delete(CLIENT_SECRET).where(CLIENT_SECRET.c.digest.in_(old[LIVE_SECRETS - 1 :])))
    secret = _add_secret(change, sealer, principal, auth)
    change.note("client.rotate", principal)
    return Made(principal, secret)


def note_certificate(change: Change, *, client_id: str, days: int, key: Any) -> None:
    """Records that the client was given a certificate for this key; where it proves itself so, the last two do."""
    principal = f"client:{client_id}"
    terms = _kept(change, principal)
    if terms.auth == "tls_client_auth":
        row = _row(replace(terms, jwks=with_key(terms.jwks, key, LIVE_SECRETS)))
        change.connection.execute(update(CLIENT).where(CLIENT.c.principal == principal).values(row))
    change.note("client.certificate", principal, after={"days": days})


def _until(change: Change, days: int) -> int:
    if not 0 < days <= DAYS_MAX:
        raise CallerFault("client-unfit", f"a client lasts for 1 to {DAYS_MAX} days, not {days}", hint="--days 365")
    return int(change.now.timestamp()) + days * DAY_S


def _kept(change: Change, principal: str) -> Terms:
    """What was said of the client, which nobody else changes meanwhile."""
    one_at_a_time = select(CLIENT.c.facts).where(CLIENT.c.principal == principal).with_for_update()
    facts = change.connection.scalar(one_at_a_time)
    return decode(facts, type=Terms) if facts else principals.missing(principal)


def _fit(change: Change, sealer: Sealer, kept: Terms, told: Mapping[str, Any]) -> Terms:
    """As they are from now on; raises CallerFault for what does not go together."""
    terms = convert({**asdict(kept), **told}, Terms)
    names.refuse_redirects(terms.redirects)
    if (told_at := terms.backchannel_logout_uri) and not (told_at.startswith("https:") and names.safe(told_at)):
        hint = "an https address: what it is told is for the client alone"
        raise CallerFault("client-unfit", f"the backchannel_logout_uri {told_at!r} is no https address", hint=hint)
    names.refuse_scopes(terms.scopes)
    for name in told.get("exchange", ()):  # who is removed later stays named, and opens nothing
        names.refuse_name(name)
        principals.one(change.connection, f"client:{name}")
    if terms.auth == API_KEY and (what := next((one for one in NO_USE_TO_KEYS if getattr(terms, one)), "")):
        hint = f"leave out --{what.removesuffix('s').replace('_', '-')}, or let it prove itself by something else"
        why = f"a client with an API key gets no tokens: {what} is of no use to it"
        raise CallerFault("client-unfit", why, hint=hint)
    if terms.auth in BY_JWKS:
        terms = replace(terms, jwks=_jwks(terms.jwks))
    terms = _of_profile(terms)
    if terms.id_token_alg == RS256:
        keys.ensure(change.connection, sealer, change.now, *keys.BY_RS256)
    return terms


def _of_profile(terms: Terms) -> Terms:
    """As the profile has them, which refuses what is safe for others alone."""
    fapi2 = terms.profile == FAPI2
    way = "--auth private_key_jwt, tls_client_auth or self_signed_tls_client_auth"
    broken = (
        (fapi2 and terms.auth in {*BY_DIGEST, NONE}, "in the profile fapi2 a client proves itself by a key", way),
        (fapi2 and terms.id_token_alg == RS256, "in the profile fapi2 nothing is signed by RS256", "--id-token-alg ES256"),
        (
            terms.pkce != "required" and (fapi2 or terms.auth == NONE),
            "public clients, and those of the profile fapi2, always use PKCE", "--pkce required",
        ),
    )  # fmt: skip
    for so, rule, hint in broken:
        if so:
            raise CallerFault("client-unfit", rule, hint=hint)
    return replace(terms, bound=terms.bound or (CERTIFICATE if terms.auth in BY_TLS else DPOP)) if fapi2 else terms


def _jwks(text: str) -> str:
    if not text:
        raise CallerFault("keys-missing", "it proves itself by a key, and none is given", hint=KEYS_HINT)
    try:
        return usable_jwks(text)
    except TokenRefused as refused:
        raise CallerFault("keys-unfit", f"the client's keys can't be used: {refused.message}", hint=KEYS_HINT) from None


def _row(terms: Terms) -> dict[str, Any]:
    return {"facts": encode(terms).decode(), "backchannel_logout_uri": terms.backchannel_logout_uri}


def _add_secret(change: Change, sealer: Sealer, principal: str, auth: str) -> Secret:
    start = f"{KEY_PREFIX}{principal.partition(':')[2]}." if auth == API_KEY else SECRET_PREFIX
    secret = Secret(start + new_secret().reveal())
    stored = digest(pepper(change.connection, sealer), "client-secret", principal, secret.reveal())
    row = {"digest": stored, "principal": principal, "made_at_us": to_us(change.now)}
    change.connection.execute(insert(CLIENT_SECRET), row)
    return secret


class Metadata(Struct, frozen=True, kw_only=True):
    """What a client says of itself; whatever is not here is passed over (RFC 7591 section 2)."""

    redirect_uris: list[str]
    client_name: Annotated[str, Meta(max_length=TITLE_MAX_CHARS)] = "App"
    scope: str = ""
    grant_types: list[Literal["authorization_code", "refresh_token"]] = []
    response_types: list[Literal["code"]] = []
    id_token_signed_response_alg: Literal["ES256", "RS256"] = "ES256"  # noqa: S105  no password
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
        return _change(change, lent.sealer, one, convert(told, Metadata))
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
    made = add_client(change, sealer=sealer, **facts)
    change.connection.execute(insert(REGISTERED).values(principal=made.id, scopes=" ".join(scopes)))
    return _given(made), ()


def _change(change: Change, sealer: Sealer, one: Client, told: Metadata) -> tuple[dict[str, Any], Keys]:
    """The whole is said anew (RFC 7592 section 2.2): what is left out is as if it had never been said."""
    if told.client_id != one.id:
        raise Refused(UNFIT, "client_id is as it was given")
    facts = _facts(told, one.profile, str(one.most).split())
    facts["bound"] = one.bound or facts["bound"]  # nor is what it is bound to its own to take off, or change
    gone, made = change_client(change, sealer=sealer, client_id=one.id, **facts), Made(one.principal, None)
    if facts["auth"] == SECRET != one.auth:
        made = rotate_secret(change, sealer=sealer, client_id=one.id)
    return _given(made), gone


def _facts(told: Metadata, profile: str, most: list[str]) -> dict[str, Any]:
    """As `add_client` takes them; a person sees where the client will send him, whatever it calls itself."""
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
        "id_token_alg": told.id_token_signed_response_alg,
    }  # fmt: skip


def _host(redirects: Iterable[str]) -> str:
    """All of them: the one that it is not known for is where a code would go."""
    return f" ({', '.join(dict.fromkeys(str(urlsplit(one).hostname) for one in redirects))})"


def _given(made: Made) -> dict[str, Any]:
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
        "id_token_signed_response_alg": one.id_token_alg,
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
    kept = None if client_id else server.drawer(connection, INITIAL).look(token)
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
    return Drawer(change.connection, pepper(change.connection, sealer), INITIAL, int(change.now.timestamp()))


def _unknown() -> Refused:
    return Refused("invalid_token", "the token opens nothing here", status=401, guessed=True)
