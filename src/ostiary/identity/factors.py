"""What a person proves himself by beside the password: apps with codes (RFC 6238); passkeys (WebAuthn Level 3), each a key
that his device keeps, and uses once it has seen that it is he; and codes for when all are lost.
"""

import base64
import hmac
import json
import secrets
import tomllib
from collections.abc import Sequence
from importlib import resources
from typing import Any, Final, NamedTuple

import pyotp
from sqlalchemy import Connection, Row, bindparam, delete, exists, select, update
from webauthn import helpers, verify_authentication_response, verify_registration_response
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import AuthenticationCredential, CollectedClientData, CredentialDeviceType

from ostiary.audit.log import Change
from ostiary.foundation.clock import to_us
from ostiary.foundation.secret import Secret, new_id
from ostiary.foundation.strict_json import parse
from ostiary.identity.credentials import derived, digest
from ostiary.identity.request import Refused
from ostiary.identity.server import Server
from ostiary.store.database import insert_into
from ostiary.store.tables import FACTOR, PRINCIPAL

TOTP: Final = "totp"
PASSKEY: Final = "passkey"
RECOVERY: Final = "recovery"
FACTORS_MAX: Final = 20  # of one person, beside recovery codes
STEP_S: Final = 30
AROUND: Final = (-1, 0, 1)  # steps that a phone's clock may be off
RECOVERY_CODES: Final = 10
RECOVERY_LETTERS: Final = "abcdefghjkmnpqrstuvwxyz23456789"
RECOVERY_LENGTH: Final = 12  # 59 bits
DIGITS: Final = 6
_ANY: Final = select(FACTOR.c.id).where(FACTOR.c.principal == bindparam("whose"))
ASKED_FOR: Final = exists().where(FACTOR.c.principal == PRINCIPAL.c.id)
NONCE_BYTES: Final = 16
PAGE_S: Final = 900  # as long may a sign-in page be open
PASSKEY_WANTED: Final = tomllib.loads((resources.files("ostiary.identity") / "passkey.toml").read_text("utf-8"))


def asked_for(connection: Connection, principal: str) -> bool:
    """Whether the password alone is not enough for this account."""
    return connection.execute(_ANY, {"whose": principal}).first() is not None


def proves(server: Server, connection: Connection, principal: str, shown: str) -> tuple[str, ...]:
    """What the code adds to the first half of the proof (RFC 8176), each code once; () where it is wrong."""
    text = shown.replace(" ", "").replace("-", "").lower()
    if text.isascii() and text.isdigit() and len(text) == DIGITS:
        return ("otp", "mfa") if _by_app(server, connection, principal, text) else ()
    used = delete(FACTOR).where(FACTOR.c.id == _recovery(server, principal, text), FACTOR.c.principal == principal)
    return ("kba", "mfa") if connection.execute(used.returning(FACTOR.c.id)).first() else ()


def _by_app(server: Server, connection: Connection, principal: str, code: str) -> bool:
    """One UPDATE takes the step: whoever saw the code comes too late (RFC 6238 section 5.2)."""
    mine = select(FACTOR.c.id, FACTOR.c.sealed).where(FACTOR.c.principal == principal, FACTOR.c.kind == TOTP)
    for row in connection.execute(mine).all():
        for step in steps(server, _opened(server, principal, row.sealed), code):
            here, at_us = (FACTOR.c.id == row.id, FACTOR.c.counter < step), to_us(server.now())
            taken = update(FACTOR).where(*here).values(counter=step, used_at_us=at_us)
            if connection.execute(taken.returning(FACTOR.c.id)).first():
                return True
    return False


def steps(server: Server, secret: Secret, shown: str) -> list[int]:
    """The steps whose code this is."""
    code = shown.replace(" ", "")
    made, now = pyotp.TOTP(secret.reveal()), server.now_s() // STEP_S
    return [now + off for off in AROUND if secrets.compare_digest(made.generate_otp(now + off).encode(), code.encode())]


def new_secret() -> Secret:
    """A new app's, in base32."""
    return Secret(pyotp.random_base32())


def address(secret: Secret, login: str, issuer: str) -> str:
    """What the app's QR code says."""
    return pyotp.TOTP(secret.reveal()).provisioning_uri(name=login, issuer_name=issuer)


def add(
    server: Server, change: Change, principal: str, kind: str, secret: Secret, *, name: str, counter: int,
    known: str = "",
) -> bool:  # fmt: skip
    """Kept once it has shown that it works; False where the very same is there already, whoever's it is."""
    sealed = server.sealer.seal(secret, _sealed_for(principal))
    row = {"id": known or new_id(kind), "principal": principal, "kind": kind, "name": name, "sealed": sealed}
    if not _insert(change, **row, counter=counter):
        return False
    change.note("factor.add", principal, after={"kind": kind, "name": name})
    return True


def new_recovery(server: Server, change: Change, principal: str) -> list[str]:
    """Ten codes, shown once; those of before are gone."""
    gone = delete(FACTOR).where(FACTOR.c.principal == principal, FACTOR.c.kind == RECOVERY)
    change.connection.execute(gone)
    codes = ["".join(secrets.choice(RECOVERY_LETTERS) for _ in range(RECOVERY_LENGTH)) for _ in range(RECOVERY_CODES)]
    for code in codes:
        row = {"id": _recovery(server, principal, code), "principal": principal, "kind": RECOVERY, "name": ""}
        _insert(change, **row, sealed=b"", counter=0)
    change.note("factor.add", principal, after={"kind": RECOVERY, "codes": len(codes)})
    return codes


def remove(change: Change, principal: str, factor: str = "") -> int:
    """The factor, or all of them; those for when one is lost go with the last."""
    which = (FACTOR.c.principal == principal, *([FACTOR.c.id == factor] if factor else []))
    gone = len(change.connection.execute(delete(FACTOR).where(*which).returning(FACTOR.c.id)).all())
    if not count(change.connection, principal):
        change.connection.execute(delete(FACTOR).where(FACTOR.c.principal == principal))
    if gone:
        change.note("factor.remove", principal, before={"factors": gone})
    return gone


def count(connection: Connection, principal: str) -> int:
    """How many there are, beside recovery codes."""
    return len([one for one in listed(connection, principal) if one["kind"] != RECOVERY])


def listed(connection: Connection, principal: str) -> Sequence[dict[str, Any]]:
    told = (FACTOR.c.id, FACTOR.c.kind, FACTOR.c.name, FACTOR.c.made_at_us, FACTOR.c.used_at_us)
    rows = select(*told).where(FACTOR.c.principal == principal)
    return [dict(row) for row in connection.execute(rows.order_by(FACTOR.c.made_at_us)).mappings()]


def sealed(server: Server, principal: str, secret: Secret) -> str:
    """A secret that is not confirmed yet, as it may lie about."""
    return base64.b64encode(server.sealer.seal(secret, _sealed_for(principal))).decode()


def unsealed(server: Server, principal: str, text: str) -> Secret:
    return _opened(server, principal, base64.b64decode(text))


def _opened(server: Server, principal: str, sealed: bytes) -> Secret:
    return server.sealer.open(sealed, _sealed_for(principal))


def _insert(change: Change, **row: Any) -> bool:
    new = insert_into(change.connection, FACTOR).values(**row, made_at_us=to_us(change.now), used_at_us=0)
    return change.connection.execute(new.on_conflict_do_nothing().returning(FACTOR.c.id)).first() is not None


def _recovery(server: Server, principal: str, code: str) -> str:
    return digest(server.key, "recovery", principal, code)


def _sealed_for(principal: str) -> str:
    return f"factor:{principal}"


class Used(NamedTuple):
    """How it proves that it is he (RFC 8176); or why it does not."""

    amr: tuple[str, ...]
    outcome: str = "wrong"
    why: str = "the right passkey, and disabled,"


def passkey_asked(server: Server, browser: str) -> str:
    """What the page asks the browser for. The challenge is this browser's own, and good once: nothing is kept before."""
    begins = f"{server.now_s()}.{secrets.token_urlsafe(NONCE_BYTES)}"
    challenge = _text(f"{begins}.{_mark(server, browser, begins)}".encode())
    return json.dumps({**PASSKEY_WANTED["get"], "rpId": server.settings.host, "challenge": challenge})


def passkey_asked_new(server: Server, connection: Connection, principal: str, challenge: str) -> str:
    """What the page asks for where a passkey is added; whose device has one already is told so by his browser."""
    mine = select(FACTOR).where(FACTOR.c.principal == principal, FACTOR.c.kind == PASSKEY)
    known = [{"type": "public-key", "id": _passkey(server, row)[0]} for row in connection.execute(mine)]
    host, login = server.settings.host, principal.removeprefix("user:")
    person = {"id": _text(_handle(server, principal)), "name": login, "displayName": login}
    new = {"rp": {"id": host, "name": host}, "user": person, "excludeCredentials": known}
    return json.dumps({**PASSKEY_WANTED["create"], **new, "challenge": _text(challenge.encode())})


def add_passkey(server: Server, change: Change, principal: str, challenge: str, shown: str, name: str) -> bool:  # noqa: PLR0917
    """Keeps the new passkey (WebAuthn section 7.1); False where it is none of these, or is somebody's already."""
    try:
        credential = helpers.parse_registration_credential_json(parse(shown.encode()))
        framed = helpers.parse_client_data_json(credential.response.client_data_json).cross_origin
        told: dict[str, Any] = {"credential": credential, "expected_challenge": challenge.encode()}
        made = verify_registration_response(**told, **_expected(server))
    except Exception:  # noqa: BLE001  the library's parsers raise whatever strange bytes lead them to
        return False
    text, key = _text(made.credential_id), _text(made.credential_public_key)
    row: dict[str, Any] = {"name": name, "counter": made.sign_count, "known": _passkey_id(server, text)}
    return not framed and add(server, change, principal, PASSKEY, Secret(f"{text}.{key}"), **row)


def read_passkey(text: str) -> AuthenticationCredential:
    """What the browser answered, of which nothing is checked yet; raises Refused where it cannot be read."""
    try:
        shown = helpers.parse_authentication_credential_json(parse(text.encode()))
        _client_data(shown)
    except (WebAuthnException, ValueError, TypeError, RecursionError):
        raise Refused("invalid_request", "the passkey's answer cannot be read") from None
    return shown


def passkey_in_time(server: Server, connection: Connection, shown: AuthenticationCredential, browser: str) -> bool:
    """Whether it answers a page that this browser was shown a while ago, for the first time."""
    challenge = _client_data(shown).challenge.decode("latin-1")
    begins, _, mark = challenge.rpartition(".")
    if not hmac.compare_digest(_mark(server, browser, begins).encode(), mark.encode()):
        return False
    young = int(begins.partition(".")[0]) > server.now_s() - PAGE_S
    return young and server.drawer(connection, "passkey").first(challenge, PAGE_S)


def find_passkey(server: Server, connection: Connection, shown: AuthenticationCredential) -> Row[Any] | None:
    """The passkey of this id, whoever's it is."""
    mine = select(FACTOR).where(FACTOR.c.id == _passkey_id(server, shown.id), FACTOR.c.kind == PASSKEY)
    return connection.execute(mine).one_or_none()


def use_passkey(server: Server, connection: Connection, row: Row[Any], shown: AuthenticationCredential) -> Used:
    """As WebAuthn section 7.2 has it; the counter is taken by one UPDATE, so that none is good twice."""
    client = _client_data(shown)
    told: dict[str, Any] = {"credential": shown, "expected_challenge": client.challenge}  # `passkey_in_time` saw it
    told |= {"credential_public_key": _bytes(_passkey(server, row)[1]), "credential_current_sign_count": 0}  # see below
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


def _client_data(shown: AuthenticationCredential) -> CollectedClientData:
    return helpers.parse_client_data_json(shown.response.client_data_json)


def _mark(server: Server, browser: str, begins: str) -> str:
    return digest(server.key, "passkey-challenge", browser, begins)


def _handle(server: Server, principal: str) -> bytes:
    """What the device knows the account by: nothing that tells who it is (WebAuthn section 14.6.1)."""
    return _bytes(derived(server.key, "passkey-account", principal).reveal())


def _passkey_id(server: Server, credential: str) -> str:
    return digest(server.key, "passkey", credential)


def _passkey(server: Server, row: Row[Any]) -> tuple[str, str]:
    """Its id and its public key."""
    text, _, key = _opened(server, row.principal, row.sealed).reveal().partition(".")
    return text, key


def _text(data: bytes) -> str:
    return helpers.bytes_to_base64url(data)


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(f"{text}===")
