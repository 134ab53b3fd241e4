"""How a person proves at the sign-in page who he is: by the password and what else his account asks for, or by a passkey."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, bindparam, select
from starlette.requests import Request
from webauthn.helpers.structs import AuthenticationCredential

from ostiary.foundation.secret import Secret, new_id
from ostiary.identity import browsers, factors, names, passkeys, tries
from ostiary.identity.credentials import Kept, new_secret
from ostiary.identity.passwords import password_matches
from ostiary.identity.request import Refused
from ostiary.identity.server import Server
from ostiary.identity.session import Person
from ostiary.plan.model import MFA
from ostiary.store.tables import PASSWORD, PRINCIPAL

AWAY_S: Final = 600  # a person may take so long at a provider
HALF_LIFE_S: Final = 300  # between password and code
NO_LOGIN: Final = "-passkey"  # nobody can be called so: what tries of passkeys that nobody has are counted by
LATE: Final = "late"
BY_PROVIDER: Final = ("provider", "provider_as", "provider_at_s", "outside_sid")
_WHO: Final = (
    select(
        PASSWORD.c.hash, PRINCIPAL.c.name, PRINCIPAL.c.generation, PRINCIPAL.c.active, factors.ASKED_FOR.label("more")
    )
    .join_from(PRINCIPAL, PASSWORD, PRINCIPAL.c.id == PASSWORD.c.principal, isouter=True)
    .where(PRINCIPAL.c.id == bindparam("principal"))
)


class Lacking(NamedTuple):
    """What is noted, the name of the text for the person, and that the password was right, where it was."""

    noted: Mapping[str, str]
    problem: str = ""
    half: str = ""


def proved(server: Server, request: Request, form: Mapping[str, str], browser: str) -> Person | Lacking:
    """What the form proves, each way with its own tries; raises Refused where there is nothing to try any more."""
    if "passkey" in form:
        return _by_passkey(server, request, form, passkeys.read(form["passkey"]), browser)
    return _by_code(server, request, form) if "half" in form else _by_password(server, request, form)


def _by_password(server: Server, request: Request, form: Mapping[str, str]) -> Person | Lacking:
    """An unknown name is not kept: it may be a password, typed into the wrong field."""
    login, password = form.get("username", ""), Secret(form.get("password", ""))
    principal = f"user:{login}"
    with server.store.begin() as connection:
        place = browsers.place(server, connection, request, login, "password")
        locked_s = tries.count(connection, place, server.now_s())
        known = connection.execute(_WHO, {"principal": principal}).one_or_none()
    row, why = (known, {}) if known and known.active else (None, {"why": names.SHUT} if known else {})
    if locked_s or not password_matches(row.hash if row else None, password) or row is None:
        return Lacking(_noted(principal if known else "", locked_s, outcome="wrong", **why), "not-accepted")
    whole = _made(server, principal, row, ("pwd",))._replace(tried=place)
    return half_of(server, whole) if row.more else whole


def half_or_whole(server: Server, person: Person) -> Person | Lacking:
    """Half of the proof where the account has another factor, which was not shown yet, the whole where it has none."""
    with server.store.read() as connection:
        whole = MFA in person.amr or not factors.asked_for(connection, person.principal)
    return person if whole else half_of(server, person)


def half_of(server: Server, person: Person) -> Lacking:
    """What is kept of the first half of a proof until the other one comes."""
    with server.store.begin() as connection:
        tries.clear(connection, person.tried)
        half = new_secret().reveal()
        facts = {name: getattr(person, name) for name in ("principal", "generation", "amr", *BY_PROVIDER)}
        server.drawer(connection, "half").keep(half, HALF_LIFE_S, client="", **facts)
    return Lacking({"outcome": "half", "account": person.principal}, half=half)


def _by_code(server: Server, request: Request, form: Mapping[str, str]) -> Person | Lacking:
    """The other half; the password's is good for one right code, and codes are tried as often as passwords."""
    half = form["half"]
    with server.store.begin() as connection:
        drawer = server.drawer(connection, "half")
        kept = drawer.look(half)
        if kept is None or kept.used:
            raise Refused("invalid_request", "this sign-in has lapsed; start again where you came from")
        principal = kept.facts["principal"]
        place = browsers.place(server, connection, request, principal.removeprefix("user:"), "code")
        locked_s = tries.count(connection, place, server.now_s())
        made = None if locked_s else person(server, connection, principal, ())
        if made and made.generation == kept.facts["generation"]:  # else the code is not used up
            amr = factors.proves(server, connection, principal, form.get("code", ""))
            if amr and drawer.use(half):
                tries.clear(connection, place)
                return made._replace(**_with(kept, amr))
    return Lacking(
        _noted(principal, locked_s, outcome="wrong", why="a code that is wrong or was used"), "wrong-code", half
    )


def _by_passkey(
    server: Server, request: Request, form: Mapping[str, str], shown: AuthenticationCredential, browser: str
) -> Person | Lacking:
    """Without a user name; a page that was open for too long is asked again and counts as no try.

    Who has no password here comes by his provider's word each time: a passkey is the other half of that alone.
    """
    with server.store.begin() as connection:
        if not passkeys.in_time(server, connection, shown, browser):
            return Lacking({"outcome": LATE}, LATE)
        row = passkeys.find(server, connection, shown)
        principal = row.principal if row else ""
        place = browsers.place(server, connection, request, principal.removeprefix("user:") or NO_LOGIN, "passkey")
        locked_s = tries.count(connection, place, server.now_s())
        used = passkeys.Used((), why="a passkey that nobody has")
        if row and not locked_s:
            used = passkeys.use(server, connection, row, shown)
        made = person(server, connection, principal, used.amr) if used.amr else None
        if made and (half := _first(server, connection, form.get("half", ""), made)) is not None:
            tries.clear(connection, place)
            return made._replace(**half)
        used = used._replace(why="a passkey without the provider's word") if made else used
    return Lacking(
        _noted(principal, locked_s, outcome=used.outcome, why=used.why), "wrong-passkey", form.get("half", "")
    )


def _first(server: Server, connection: Connection, half: str, made: Person) -> Mapping[str, Any] | None:
    """By whose word he came before the passkey, if by any; None where that is missing."""
    kept = server.drawer(connection, "half").use(half)
    if kept and (kept.facts["principal"], kept.facts["generation"]) == (made.principal, made.generation):
        return _with(kept, made.amr)
    own = select(PASSWORD.c.principal).where(PASSWORD.c.principal == made.principal)
    return {} if connection.execute(own).first() else None


def _with(kept: Kept, amr: tuple[str, ...]) -> dict[str, Any]:
    """What both halves of a proof say."""
    return {"amr": (*kept.facts["amr"], *amr), **{name: kept.facts[name] for name in BY_PROVIDER}}


def _noted(principal: str, locked_s: int, **why: str) -> dict[str, str]:
    account = {"account": principal} if principal else {}
    return {**({"outcome": "locked", "locked_s": str(locked_s)} if locked_s else why), **account}


def person(server: Server, connection: Connection, principal: str, amr: tuple[str, ...]) -> Person | None:
    """The active one with this id, as he signs in now; None where there is none."""
    row = connection.execute(_WHO, {"principal": principal}).one_or_none()
    return _made(server, principal, row, amr) if row and row.active else None


def _made(server: Server, principal: str, row: Any, amr: tuple[str, ...]) -> Person:
    return Person(principal, row.name, new_id("sid"), server.now_s(), row.generation, amr, new_secret().reveal())
