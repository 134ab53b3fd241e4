"""Signing in by the word of an OpenID Connect provider, and signing out when it says so.

The answer must be to this browser's question (state, nonce, PKCE), by the provider that was asked (issuer, an address of
its own for each: RFC 9700 section 4.4), and is good once.
"""

import base64
import hmac
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

from sqlalchemy import Connection, or_
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ostiary.audit.log import Change
from ostiary.foundation.errors import CallerFault, OperatorFault, OstiaryError
from ostiary.foundation.proof import IdToken, hashed, verify_id_token, verify_logout_token
from ostiary.identity import providers, session, sign_in
from ostiary.identity.asked import read
from ostiary.identity.credentials import derived, digest, new_secret
from ostiary.identity.page import HEADERS, TEXTS, page
from ostiary.identity.principals import end_sessions
from ostiary.identity.providers import Provider
from ostiary.identity.request import Refused, form, parse, query
from ostiary.identity.server import NO_STORE, Server
from ostiary.plan.model import MFA
from ostiary.store.tables import SESSION

SKEW_S: Final = 30
KIND: Final = "outside"
AMR: Final = "fed"  # somebody else saw how
OVERAGE: Final = "_claim_names"  # what stands there was left out of the token for its size (OpenID Connect Core 5.6.2)


def begin(server: Server, request: Request, body: bytes) -> Response:
    """POST /provider/NAME/sign-in: from the sign-in page to the provider, once the person has pressed its button."""
    try:
        asked, _ = sign_in.shown(server, request, parse(body))
        age_s, state = 0 if asked.fresh else asked.age_max_s, new_secret().reveal()
        since_s = 0 if age_s is None else server.now_s() - age_s
        with server.store.begin() as connection:
            provider, text = _named(connection, request), base64.b64encode(asked.text).decode()
            facts = {"provider": provider.name, "browser": _browser(server, request), "asked": text}
            facts["terms"] = asked.terms
            server.drawer(connection, KIND).keep(state, session.AWAY_S, client="", since_s=since_s, **facts)
        place = server.published.metadata(provider.issuer).authorization_endpoint
    except (Refused, OstiaryError) as refused:
        return _stopped(server, request, refused)
    wanted = {
        "response_type": "code", "client_id": provider.client_id, "redirect_uri": _here(server, provider), "state": state,
        "scope": provider.scopes, "nonce": _of(server, "nonce", state), "code_challenge_method": "S256",
        "code_challenge": hashed(_of(server, "verifier", state)), "max_age": session.SESSION_LIFE_S if age_s is None else age_s,
        **({"prompt": "login"} if asked.fresh else {}),
        **({"acr_values": provider.acrs} if asked.mfa and provider.acrs != "-" else {}),
    }  # fmt: skip
    server.note(request, "sent", client=asked.by, provider=provider.name)
    return RedirectResponse(f"{place}{'&' if '?' in place else '?'}{urlencode(wanted)}", 303, headers=HEADERS)


def back(server: Server, request: Request, _body: bytes) -> Response:
    """GET /provider/NAME/callback: what the provider says, and then as after any sign-in."""
    try:
        given = parse(query(request))
        state, browser = given.get("state", ""), _browser(server, request)
        with server.store.begin() as connection:
            provider, kept = _named(connection, request), server.drawer(connection, KIND).use(state)
            known: dict[str, Any] = kept.facts if kept else {"provider": "", "browser": ""}
            if known["provider"] != provider.name or not hmac.compare_digest(known["browser"], browser):
                raise Refused("invalid_request", "outside-lapsed")  # noqa: TRY301  and who was asked can still answer
            asked = read(server, connection, base64.b64decode(known["asked"]))
            if asked.problem or asked.terms != known["terms"]:
                raise asked.problem or Refused("invalid_request", "outside-lapsed")
            secret = providers.secret_of(connection, server.sealer, provider.name)
        one, told = _proved(server, provider, secret, given)
        if one.auth_time < known["since_s"] - SKEW_S:
            return sign_in.unmet(server, request, asked)
        sure = provider.mfa == "trusted" and (MFA in one.amr or one.acr in provider.acrs.split())
        principal, amr = _account(server, provider, one, told), (AMR, MFA) if sure else (AMR,)
        with server.store.read() as connection:
            person = session.person(server, connection, principal, amr)  # its generation first: an unlinking raises it
            linked = providers.account(connection, provider.issuer, one.sub)
        if person is None or linked is None or linked["id"] != principal:  # disabled, or another's, meanwhile
            raise Refused("access_denied", "outside-disabled")  # noqa: TRY301  one page for all
    except (Refused, OstiaryError) as refused:
        return _stopped(server, request, refused)
    since_s = min(int(one.auth_time), server.now_s())
    person = person._replace(
        authenticated_at_s=since_s, provider=provider.name, provider_as=providers.meant(provider), provider_at_s=since_s,
        outside_sid=one.sid,
    )  # fmt: skip
    return sign_in.concluded(server, request, asked, session.half_or_whole(server, person))


def logged_out(server: Server, request: Request, body: bytes) -> Response:
    """POST /provider/NAME/logout: the sessions that ended at the provider end here, with all that was given in them."""
    text = form(request, body).get("logout_token", "")
    try:
        with server.store.read() as connection:
            provider = _named(connection, request)
        keys = partial(server.published.keys, provider.issuer)
        one = verify_logout_token(text, keys, provider.issuer, provider.client_id, server.now())
    except OstiaryError as refused:
        raise Refused("invalid_request", refused.message) from None
    with server.store.begin() as connection:
        life_s = int(one.exp) - server.now_s() + SKEW_S
        if not server.seen_first(connection, request, "logout-token", f"{provider.issuer} {one.jti}", life_s):
            raise Refused("invalid_request", "the logout token was used before")
        providers.held(connection, provider.name)
        account = providers.account(connection, provider.issuer, one.sub) if one.sub else None
        whose = account["id"] if account else ""
        sign_in.mark_ended(server, connection, provider.name, one.sid or whose)
        this = SESSION.c.outside_sid == one.sid
        which = [SESSION.c.provider == provider.name]
        which += [or_(this, SESSION.c.outside_sid == "") if one.sub else this] if one.sid else []
        which += [SESSION.c.principal == whose] if one.sub else []
        change = Change(connection, f"provider:{provider.name}", server.now())
        gone = end_sessions(change, "signed out at the provider", *which)
    server.note(request, "done", provider=provider.name, keys=" ".join(gone))
    server.take_back(gone)
    return Response(headers=NO_STORE)


def _proved(server: Server, provider: Provider, secret: str, given: dict[str, str]) -> tuple[IdToken, dict[str, Any]]:
    """Who the provider says it is; raises where it is not the one that was asked, or says no."""
    must = server.published.metadata(provider.issuer).authorization_response_iss_parameter_supported
    if given.get("iss", "" if must else provider.issuer) != provider.issuer:  # RFC 9207 section 2.4
        raise Refused("invalid_request", "the answer is of another provider")
    if "code" not in given:
        raise Refused("access_denied", "outside-denied", said=given.get("error", "-")[:50])
    code = {"code": given["code"], "redirect_uri": _here(server, provider)}
    code["code_verifier"] = _of(server, "verifier", given["state"])
    tokens = server.published.redeem(provider.issuer, provider.client_id, secret, code)
    keys, nonce = partial(server.published.keys, provider.issuer), _of(server, "nonce", given["state"])
    facts = (provider.issuer, provider.client_id, nonce, tokens.access_token)
    return verify_id_token(tokens.id_token, keys, *facts, server.now())


def _account(server: Server, provider: Provider, one: IdToken, told: dict[str, Any]) -> str:
    """Whose account it is, with just the roles that the claims bring: control gives and takes them where they differ."""

    def refused(why: str, **more: Any) -> Refused:
        return Refused("access_denied", why, provider=provider.name, outside=one.sub, **more)

    left_out, roles = told.get(OVERAGE), providers.mapped(provider, told)
    if isinstance(left_out, dict) and any(claim in left_out for claim, _, _ in provider.maps):
        raise refused("outside-overage")
    with server.store.read() as connection:
        account = providers.account(connection, provider.issuer, one.sub)
    if account is None and provider.accounts != "jit":
        raise refused("outside-unknown")
    if account and not account["active"]:
        raise refused("outside-disabled", account=account["id"])
    if (account and roles is not None and roles != account["roles"]) or (not account and roles):
        texts = {"login": str(told.get("preferred_username", "")), "title": str(told.get("name", ""))}
        try:
            server.arrive({"provider": provider.name, "subject": one.sub, "roles": roles, **texts})
        except (CallerFault, OperatorFault) as problem:
            raise refused("outside-refused", because=problem.code) from None
        with server.store.read() as connection:
            account = providers.account(connection, provider.issuer, one.sub)
    if account is None or not account["roles"]:
        raise refused("outside-roles")
    return str(account["id"])


def _stopped(server: Server, request: Request, refused: Refused | OstiaryError) -> Response:
    """A page for the person; the journal has all of it."""
    if isinstance(refused, Refused):
        outcome, text, facts = refused.error, refused.description, refused.facts
        why = " ".join([TEXTS["en"].get(text, text), *(f"{name}={told}" for name, told in facts.items())])
    else:
        outcome, why, text, facts = refused.code, refused.message, "outside-failed", {}
    server.note(request, outcome, **{"why": why, **facts})
    return page(request, "stopped", status=400, problem=text)


def _named(connection: Connection, request: Request) -> Provider:
    return providers.find(connection, request.path_params["name"])


def _here(server: Server, provider: Provider) -> str:
    """The address that only this provider sends people back to."""
    return f"{server.issuer}/provider/{provider.name}/callback"


def _browser(server: Server, request: Request) -> str:
    return digest(server.key, "outside-browser", request.cookies.get(sign_in.FORM_COOKIE, ""))


def _of(server: Server, what: str, state: str) -> str:
    """The nonce and the verifier of one question: nobody has to keep them."""
    return derived(server.key, f"outside-{what}", state).reveal()
