"""Passkeys (WebAuthn Level 3): a key that a person's device keeps, and uses once it has seen that it is he."""

import base64
import hmac
import json
import secrets
import tomllib
from importlib import resources
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, select, update
from webauthn import helpers, verify_authentication_response, verify_registration_response
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import AuthenticationCredential, CollectedClientData, CredentialDeviceType

from ostiary.audit.log import Change
from ostiary.foundation.clock import to_us
from ostiary.foundation.secret import Secret
from ostiary.foundation.strict_json import parse
from ostiary.identity import factors
from ostiary.identity.credentials import derived, digest
from ostiary.identity.request import Refused
from ostiary.identity.server import Server
from ostiary.store.tables import FACTOR

NONCE_BYTES: Final = 16
PAGE_S: Final = 900  # as long may a sign-in page be open
WANTED: Final = tomllib.loads((resources.files("ostiary.identity") / "passkey.toml").read_text("utf-8"))


class Used(NamedTuple):
    """How it proves that it is he (RFC 8176); or why it does not."""

    amr: tuple[str, ...]
    outcome: str = "wrong"
    why: str = "the right passkey, and disabled,"


def asked(server: Server, browser: str) -> str:
    """What the page asks the browser for. The challenge is this browser's own, and good once: nothing is kept before."""
    begins = f"{server.now_s()}.{secrets.token_urlsafe(NONCE_BYTES)}"
    challenge = _text(f"{begins}.{_mark(server, browser, begins)}".encode())
    return json.dumps({**WANTED["get"], "rpId": server.settings.host, "challenge": challenge})


def asked_new(server: Server, connection: Connection, principal: str, challenge: str) -> str:
    """What the page asks for where a passkey is added; whose device has one already is told so by his browser."""
    mine = select(FACTOR).where(FACTOR.c.principal == principal, FACTOR.c.kind == factors.PASSKEY)
    known = [{"type": "public-key", "id": _opened(server, row)[0]} for row in connection.execute(mine)]
    host, login = server.settings.host, principal.removeprefix("user:")
    person = {"id": _text(_handle(server, principal)), "name": login, "displayName": login}
    new = {"rp": {"id": host, "name": host}, "user": person, "excludeCredentials": known}
    return json.dumps({**WANTED["create"], **new, "challenge": _text(challenge.encode())})


def add(server: Server, change: Change, principal: str, challenge: str, shown: str, name: str) -> bool:  # noqa: PLR0917
    """Keeps the new passkey (WebAuthn section 7.1); False where it is none of these, or is somebody's already."""
    try:
        credential = helpers.parse_registration_credential_json(parse(shown.encode()))
        framed = helpers.parse_client_data_json(credential.response.client_data_json).cross_origin
        told: dict[str, Any] = {"credential": credential, "expected_challenge": challenge.encode()}
        made = verify_registration_response(**told, **_expected(server))
    except Exception:  # noqa: BLE001  the library's parsers raise whatever strange bytes lead them to
        return False
    text, key = _text(made.credential_id), _text(made.credential_public_key)
    row: dict[str, Any] = {"name": name, "counter": made.sign_count, "known": _id(server, text)}
    return not framed and factors.add(server, change, principal, factors.PASSKEY, Secret(f"{text}.{key}"), **row)


def read(text: str) -> AuthenticationCredential:
    """What the browser answered, of which nothing is checked yet; raises Refused where it cannot be read."""
    try:
        shown = helpers.parse_authentication_credential_json(parse(text.encode()))
        _client(shown)
    except (WebAuthnException, ValueError, TypeError, RecursionError):
        raise Refused("invalid_request", "the passkey's answer cannot be read") from None
    return shown


def in_time(server: Server, connection: Connection, shown: AuthenticationCredential, browser: str) -> bool:
    """Whether it answers a page that this browser was shown a while ago, for the first time."""
    challenge = _client(shown).challenge.decode("latin-1")
    begins, _, mark = challenge.rpartition(".")
    if not hmac.compare_digest(_mark(server, browser, begins).encode(), mark.encode()):
        return False
    young = int(begins.partition(".")[0]) > server.now_s() - PAGE_S
    return young and server.drawer(connection, "passkey").first(challenge, PAGE_S)


def find(server: Server, connection: Connection, shown: AuthenticationCredential) -> Row[Any] | None:
    """The passkey of this id, whoever's it is."""
    mine = select(FACTOR).where(FACTOR.c.id == _id(server, shown.id), FACTOR.c.kind == factors.PASSKEY)
    return connection.execute(mine).one_or_none()


def use(server: Server, connection: Connection, row: Row[Any], shown: AuthenticationCredential) -> Used:
    """As WebAuthn section 7.2 has it; the counter is taken by one UPDATE, so that none is good twice."""
    client = _client(shown)
    told: dict[str, Any] = {"credential": shown, "expected_challenge": client.challenge}  # `in_time` has looked at it
    told |= {"credential_public_key": _bytes(_opened(server, row)[1]), "credential_current_sign_count": 0}  # see below
    if shown.response.user_handle != _handle(server, row.principal) or client.cross_origin:
        return Used((), why="a passkey of another account, or asked for within another page,")
    try:
        made = verify_authentication_response(**told, **_expected(server))
    except WebAuthnException as problem:
        return Used((), why=f"a passkey's answer that does not hold ({type(problem).__name__})")
    count = made.new_sign_count
    onward = FACTOR.c.counter < count if count else FACTOR.c.counter == 0  # 0: it does not count
    taken = update(FACTOR).where(FACTOR.c.id == row.id, onward).values(counter=count, used_at_us=to_us(server.now()))
    if connection.execute(taken.returning(FACTOR.c.id)).first() is None:
        return Used((), "cloned", "a passkey whose counter went back (there is a copy of it: have it removed)")
    synced = made.credential_device_type is CredentialDeviceType.MULTI_DEVICE
    return Used(("swk" if synced else "hwk", "user", "mfa"))


def _expected(server: Server) -> dict[str, Any]:
    here = server.settings
    return {"expected_rp_id": here.host, "expected_origin": here.origin, "require_user_verification": True}


def _client(shown: AuthenticationCredential) -> CollectedClientData:
    return helpers.parse_client_data_json(shown.response.client_data_json)


def _mark(server: Server, browser: str, begins: str) -> str:
    return digest(server.key, "passkey-challenge", browser, begins)


def _handle(server: Server, principal: str) -> bytes:
    """What the device knows the account by: nothing that tells who it is (WebAuthn section 14.6.1)."""
    return _bytes(derived(server.key, "passkey-account", principal).reveal())


def _id(server: Server, credential: str) -> str:
    return digest(server.key, "passkey", credential)


def _opened(server: Server, row: Row[Any]) -> tuple[str, str]:
    """Its id and its public key."""
    text, _, key = factors.opened(server, row.principal, row.sealed).reveal().partition(".")
    return text, key


def _text(data: bytes) -> str:
    return helpers.bytes_to_base64url(data)


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(f"{text}===")
