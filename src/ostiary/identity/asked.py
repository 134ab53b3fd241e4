"""What a person is asked: a client's authorization request, checked in the order of RFC 6749 section 4.1.2.1; a device's
(RFC 8628); or only who he is, for his own account.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection

from ostiary.identity import clients
from ostiary.identity import device as devices
from ostiary.identity.clients import FAPI2, Client
from ostiary.identity.request import QUERY_MAX_BYTES, Refused, parse
from ostiary.identity.server import Server
from ostiary.plan.model import MFA

ACRS: Final = (MFA, "pwd")  # how a person may be asked to sign in, the surer way first
PUSHED: Final = "urn:ietf:params:oauth:request_uri:"  # how the name of a pushed request begins (RFC 9126)
AGE: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
HASH: Final = re.compile(r"[A-Za-z0-9_-]{43}")  # base64url of a SHA-256
PROMPTS: Final = frozenset({"none", "login", "consent", "select_account"})
FRESH: Final = frozenset({"login", "select_account"})
ACCOUNT: Final = b"account"


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
    age_max_s: int | None = None  # or at least where the last time is longer ago than this
    mfa: bool = False  # by more than one factor
    pushed: str = ""  # the name of the pushed request that it is
    user_code: str = ""  # of the device that waits for the answer
    act: Mapping[str, str] = MappingProxyType({})  # what he changes at his own account

    @property
    def by(self) -> str:
        """Who asks, for the journal."""
        return self.client.id if self.client else "-"


def read(server: Server, connection: Connection, text: bytes, *, device: bool = False) -> Asked:
    """The request in `text`, or the one that it names; raises Refused only while nobody may be redirected to.

    `device`: codes of devices are looked at, since whoever guesses them is counted.
    """
    account, _, act = text.partition(b"?")
    if account == ACCOUNT:
        return Asked(text, act=parse(act), fresh=bool(act))
    given = parse(text, max_bytes=QUERY_MAX_BYTES)
    if device and "user_code" in given:
        return _of_device(server, connection, text, given["user_code"])
    client = clients.find(connection, given.get("client_id", ""))
    pushed = given.get("request_uri", "")
    if client and pushed.startswith(PUSHED):
        given = _pushed(server, connection, client, pushed)
    redirect = given.get("redirect_uri", "")
    if client is None or not clients.redirect_known(client, redirect):
        raise Refused("invalid_request", "the client or its redirect address is not registered")
    problem, values = None, {}
    try:
        _refuse_unpushed(client, pushed)
        values = _checked(server, client, given)
    except Refused as refused:
        problem = refused
    prompts, acrs = set(given.get("prompt", "").split()), set(given.get("acr_values", "").split()) & set(ACRS)
    return Asked(
        text, client, redirect, given.get("state", ""), problem, values, given.get("code_challenge", ""),
        silent="none" in prompts, fresh=bool(prompts & FRESH), mfa=acrs == {MFA},
        age_max_s=int(given["max_age"]) if problem is None and "max_age" in given else None, pushed=pushed,
    )  # fmt: skip


def checked(server: Server, client: Client, given: dict[str, str]) -> None:
    """Raises Refused for what an authorization request of this client may not ask for."""
    if not clients.redirect_known(client, given.get("redirect_uri", "")):
        raise Refused("invalid_request", "the redirect address is not registered")
    _checked(server, client, given)


def _of_device(server: Server, connection: Connection, text: bytes, code: str) -> Asked:
    kept = devices.waiting(server, connection, code)
    client = clients.find(connection, kept.client.partition(":")[2]) if kept else None
    if kept is None or client is None:
        raise Refused("invalid_request", "no device waits with this code; look at its screen again")
    values = clients.scope_of(server, client, kept.facts)  # what it may now
    return Asked(text, client, values={**values, "nonce": "", "bound": ""}, user_code=devices.shown(code))


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
    # RFC 7636 section 4.4.1; plain, and a missing method, which means plain, are refused
    if given.get("code_challenge_method") != "S256" or not HASH.fullmatch(given.get("code_challenge", "")):
        raise Refused("invalid_request", "PKCE with S256 is required")
    if "dpop_jkt" in given and not HASH.fullmatch(given["dpop_jkt"]):
        raise Refused("invalid_request", "dpop_jkt is the thumbprint of a key")
    bound = f"jkt:{given['dpop_jkt']}" if "dpop_jkt" in given else ""
    return {**clients.scope_of(server, client, given), "nonce": given.get("nonce", ""), "bound": bound}
