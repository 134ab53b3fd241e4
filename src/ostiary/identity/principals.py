"""Who there is, with all that they hold and no secret: users, clients, devices, as administrators see and change them.

Each change is audited in its transaction and says what it revoked.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from sqlalchemy import Column, ColumnElement, Connection, Row, Select, delete, func, insert, select, update

from ostiary.audit.log import Change
from ostiary.foundation.clock import stamp, to_us
from ostiary.foundation.errors import CallerFault
from ostiary.foundation.home import LIFE_MAX_S
from ostiary.foundation.ids import role_set_id
from ostiary.foundation.secret import Secret
from ostiary.identity import factors, farewell, names, tries
from ostiary.identity.credentials import pepper
from ostiary.store import directory
from ostiary.store.database import METADATA, Sealer, insert_into, upsert
from ostiary.store.tables import (
    ASSIGNMENT,
    CLIENT,
    DEVICE,
    ERP_ACCOUNT,
    FACTOR,
    GRANT,
    KNOWN_BROWSER,
    ONE_TIME,
    OUTSIDE,
    PASSWORD,
    PRINCIPAL,
    PROPOSAL,
    PROVISIONED,
    REFRESH,
    REVOCATION,
    ROLE_SET,
    SESSION,
)

REVOKED_S: Final = LIFE_MAX_S + 120  # a token may be signed while its revocation waits for the lock; clocks differ
Keys = tuple[str, ...]


def users(connection: Connection) -> list[dict[str, Any]]:
    return _list(connection, PRINCIPAL.c.id.startswith("user:"))


def clients(connection: Connection) -> list[dict[str, Any]]:
    return _list(connection, PRINCIPAL.c.id.startswith("client:"))


def one(connection: Connection, principal: str) -> dict[str, Any]:
    """One user or client, as it is listed; raises CallerFault where there is none."""
    found = _list(connection, PRINCIPAL.c.id == principal)
    return found[0] if found else missing(principal)


def with_locks(connection: Connection, key: bytes, rows: list[dict[str, Any]], now_s: int) -> list[dict[str, Any]]:
    """The same, and for how long wrong passwords keep each user out yet; 0 where they don't."""
    logins = {row["id"]: row["id"].removeprefix("user:") for row in rows if row["id"].startswith("user:")}
    locked = tries.locked(connection, key, list(logins.values()), now_s)
    return [{**row, "locked_s": locked.get(logins[row["id"]], 0)} if row["id"] in logins else row for row in rows]


def in_full(connection: Connection, name: str) -> str:
    """`user:anna` of `anna`, where one principal alone is called so; what says which kind it is, as it is."""
    both = (f"user:{name}", f"client:{name}")
    meant = [name] if ":" in name else connection.scalars(select(PRINCIPAL.c.id).where(PRINCIPAL.c.id.in_(both))).all()
    if len(meant) != 1:
        told = f"{' and '.join(sorted(meant))} are both called {name}" if meant else f"nobody is called {name}"
        raise CallerFault("principal-unclear", told, hint=f"write user:{name} or client:{name}")
    return str(meant[0])


def missing(principal: str) -> NoReturn:
    hint = "write user:NAME or client:NAME, as `ostiary user list` and `client list` show it"
    raise CallerFault("no-such-principal", f"there is no {principal}", hint=hint)


def _list(connection: Connection, which: ColumnElement[bool]) -> list[dict[str, Any]]:
    """With roles, ERP logins by system, and for a client what it may ask for and where people are sent back."""
    some = select(PRINCIPAL.c.id).where(which)
    roles, kinds = _held(connection, some, ASSIGNMENT.c.role), _held(connection, some, FACTOR.c.kind)
    accounts = _held(connection, some, ERP_ACCOUNT.c.system, ERP_ACCOUNT.c.login)
    outside = _held(connection, some, OUTSIDE.c.issuer, OUTSIDE.c.subject)
    shown = select(PRINCIPAL, CLIENT.c.facts, CLIENT.c.until_s).outerjoin(CLIENT).where(which).order_by(PRINCIPAL.c.id)
    return [
        {
            "id": row.id, "name": row.name, "person": row.person, "active": row.active,
            "roles": [role for (role,) in roles[row.id]], "accounts": dict(accounts[row.id]),
            **_proves(row, {kind for (kind,) in kinds[row.id]}, dict(outside[row.id])),
        }
        for row in connection.execute(shown)
    ]  # fmt: skip


def _proves(row: Row[Any], kinds: Iterable[str], outside: Mapping[str, str]) -> dict[str, Any]:
    """Of a client all that was said of it; of a person who he is at providers, by their issuers, and what he shows beside the password: an
    app's codes (totp), a passkey, codes for when these are lost.
    """
    if row.facts:
        return {**json.loads(row.facts), "until": end_stamp(row.until_s)}
    return {"factors": sorted(kinds), "outside": outside}


def _held(connection: Connection, some: Select[Any], *columns: Column[Any]) -> Mapping[str, list[Any]]:
    """Principal -> what it has in these columns of one table, in their order."""
    whose, found = columns[0].table.c.principal, defaultdict[str, list[Any]](list)
    for principal, *values in connection.execute(select(whose, *columns).where(whose.in_(some)).order_by(*columns)):
        found[principal].append(values)
    return found


def end_stamp(until_s: int) -> str:
    return stamp(datetime.fromtimestamp(until_s, UTC))


def add_user(
    change: Change, *, login: str, hashed: str, name: str = "", roles: Sequence[str] = (), person: str = ""
) -> str:
    """Makes `user:<login>` and returns its id; the password comes hashed, which takes too long for a transaction."""
    principal = add(change, "user", login, name, person, roles=roles)
    change.connection.execute(insert(PASSWORD).values(principal=principal, hash=hashed))
    return principal


def add(
    change: Change, kind: str, name: str, title: str, person: str, *, roles: Sequence[str], more: Mapping[str, Any] = {}
) -> str:
    """The row of a principal of this kind, with its roles, audited with `more`; returns its id."""
    names.refuse_name(name)
    names.refuse_text(name=title, person=person)
    principal = f"{kind}:{name}"
    alike = select(PRINCIPAL.c.id).where(func.lower(PRINCIPAL.c.id) == principal.lower(), PRINCIPAL.c.id != principal)
    if other := change.connection.scalars(alike).first():
        told = f"{other} exists already, and {principal} differs from it by capital letters alone"
        raise CallerFault("exists", told, hint=f"see `ostiary {kind} list`")
    row = {"id": principal, "name": title or name, "person": person or principal}
    beginning = {"generation": _first_generation(change, principal), "active": True, "made_at_us": to_us(change.now)}
    new = insert_into(change.connection, PRINCIPAL).values(**row, **beginning)
    if change.connection.execute(new.on_conflict_do_nothing().returning(PRINCIPAL.c.id)).first() is None:
        raise CallerFault("exists", f"{principal} exists already", hint=f"see `ostiary {kind} list`")
    _assign(change, principal, roles)
    change.note(f"{kind}.add", principal, after={**row, "roles": sorted(set(roles)), **more})
    return principal


def _assign(change: Change, principal: str, roles: Sequence[str]) -> None:
    held = sorted(set(roles))
    names.refuse_roles(held)
    if held:
        change.connection.execute(insert(ASSIGNMENT), [{"principal": principal, "role": role} for role in held])
    upsert(change.connection, ROLE_SET, {"id": role_set_id(held)}, {"roles": ",".join(held)})


def _first_generation(change: Change, principal: str) -> int:
    """After those that were revoked of one that had the name before: else new tokens would count as revoked too."""
    mine = select(REVOCATION.c.key).where(REVOCATION.c.key.startswith(f"gen:{principal}#", autoescape=True))
    return 1 + max((int(key.rpartition("#")[2]) for key in change.connection.scalars(mine)), default=0)


def set_roles(change: Change, *, principal: str, roles: Sequence[str], reason: str = "") -> Keys:
    """Exactly these roles from now on; older tokens are revoked."""
    keys = next_generation(change, principal, "roles changed")
    before = one(change.connection, principal)["roles"]
    change.connection.execute(delete(ASSIGNMENT).where(ASSIGNMENT.c.principal == principal))
    _assign(change, principal, roles)
    after = {"roles": sorted(set(roles))}
    change.note("principal.roles", principal, before={"roles": before}, after=after, reason=reason)
    return keys


def set_password(change: Change, *, sealer: Sealer, login: str, hashed: str) -> Keys:
    """A new password, hashed; sessions, grants and older tokens end. Wrong tries of the old one count no more."""
    keys = end(change, f"user:{login}", "password changed")
    keep_password(change, key=pepper(change.connection, sealer), login=login, hashed=hashed)
    return keys


def keep_password(change: Change, *, key: bytes, login: str, hashed: str) -> None:
    tries.unlock(change.connection, key, login)
    upsert(change.connection, PASSWORD, {"principal": f"user:{login}"}, {"hash": hashed})
    change.note("user.password", f"user:{login}")


def forget_factors(change: Change, *, login: str) -> Keys:
    """The password alone is enough again for who has lost apps, passkeys and codes; what he was given ends."""
    factors.remove(change, f"user:{login}")
    return revoke_principal(change, principal=f"user:{login}", reason="second factor taken off")


def disable(change: Change, *, principal: str, keep_clients: bool = False) -> Keys:
    """No token, no sign-in; sessions and grants end. Clients that this person answers for go too, unless they are kept."""
    keys = end(change, principal, "disabled")
    _set_active(change, principal, active=False)
    theirs = (PRINCIPAL.c.person == principal, PRINCIPAL.c.id.startswith("client:"), PRINCIPAL.c.active)
    for client in () if keep_clients else change.connection.scalars(select(PRINCIPAL.c.id).where(*theirs)).all():
        keys += disable(change, principal=client)
    return keys


def enable(change: Change, *, sealer: Sealer, principal: str) -> Keys:
    """Also lets in again whom wrong passwords keep out."""
    _set_active(change, principal, active=True)
    tries.unlock(change.connection, pepper(change.connection, sealer), principal.partition(":")[2])
    return ()


def _set_active(change: Change, principal: str, *, active: bool) -> None:
    was = one(change.connection, principal)["active"]  # raises where there is none
    change.connection.execute(update(PRINCIPAL).where(PRINCIPAL.c.id == principal).values(active=active))
    decided = update(PROVISIONED).where(PROVISIONED.c.principal == principal).values(ended=False)
    change.connection.execute(decided)  # for a client that disables it, it says so itself
    action = "principal.enable" if active else "principal.disable"
    change.note(action, principal, before={"active": was}, after={"active": active})


def remove(change: Change, *, principal: str) -> Keys:
    """All that is known of it goes, but for the audit log and whose hand its ERP user was; what it was given ends."""
    before = one(change.connection, principal)
    others = select(PRINCIPAL.c.id).where(PRINCIPAL.c.person == principal, PRINCIPAL.c.id != principal)
    if acting := list(change.connection.scalars(others.order_by(PRINCIPAL.c.id))):
        hint = "give them to another (`ostiary client change --person`) or remove them first; `disable` takes all access away at once"
        raise CallerFault("person-behind", f"{principal} is the person behind {', '.join(acting)}", hint=hint)
    keys = end(change, principal, "removed")
    mine = select(GRANT.c.id).where((GRANT.c.principal == principal) | (GRANT.c.client == principal))
    for table in (ONE_TIME, REFRESH):
        change.connection.execute(delete(table).where(table.c.grant.in_(mine)))
    change.connection.execute(delete(GRANT).where(GRANT.c.id.in_(mine)))
    directory.keep_past(change.connection, to_us(change.now), ERP_ACCOUNT.c.principal == principal)
    change.connection.execute(delete(PROVISIONED).where(PROVISIONED.c.client == principal))
    for table in METADATA.sorted_tables:
        if "principal" in table.c and (table is DEVICE or table.c.principal.foreign_keys):
            change.connection.execute(delete(table).where(table.c.principal == principal))
    change.connection.execute(delete(PRINCIPAL).where(PRINCIPAL.c.id == principal))
    change.note("principal.remove", principal, before=before)
    return keys


def set_erp_account(
    change: Change, *, sealer: Sealer, principal: str, system: str, login: str, password: Secret, uid: str = ""
) -> Keys:
    """Says as which ERP user the principal's calls arrive."""
    names.refuse_text(system=system, login=login, uid=uid)
    one(change.connection, principal)  # raises where there is none
    sealed = sealer.seal(password, directory.sealed_for(system, principal))
    place = {"principal": principal, "system": system}
    table = ERP_ACCOUNT.c
    other = (table.principal == principal, table.system == system, (table.login != login) | (table.uid != uid))
    directory.keep_past(change.connection, to_us(change.now), *other)
    upsert(change.connection, ERP_ACCOUNT, place, {"login": login, "uid": uid, "sealed_secret": sealed})
    change.note("account.set", principal, after={"system": system, "login": login, "uid": uid})
    return ()


def remove_erp_account(change: Change, *, principal: str, system: str) -> Keys:
    """The principal acts as nobody there from now on; whose hand the ERP user was stays known."""
    mine = (ERP_ACCOUNT.c.principal == principal, ERP_ACCOUNT.c.system == system)
    directory.keep_past(change.connection, to_us(change.now), *mine)
    ends = delete(ERP_ACCOUNT).where(*mine).returning(ERP_ACCOUNT.c.login)
    gone = change.connection.execute(ends).scalar_one_or_none()
    if gone is None:
        kind, _, name = principal.partition(":")
        told = f"{principal} has no account in {system}"
        raise CallerFault("no-account", told, hint=f"see `ostiary {kind} show {name}`")
    change.note("account.remove", principal, before={"system": system, "login": gone})
    return ()


def set_reader(change: Change, *, sealer: Sealer, system: str, login: str, password: Secret, uid: str = "") -> Keys:
    """Says as which ERP user the guard itself reads; the system becomes a principal, `system:<name>`, at the first."""
    principal = f"system:{system}"
    if not change.connection.execute(select(PRINCIPAL.c.id).where(PRINCIPAL.c.id == principal)).first():
        add(change, "system", system, "", "", roles=())
    account: dict[str, Any] = {"system": system, "login": login, "password": password, "uid": uid}
    return set_erp_account(change, sealer=sealer, principal=principal, **account)


def devices(connection: Connection) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(select(DEVICE).order_by(DEVICE.c.name)).mappings()]


def add_device(change: Change, *, name: str, principal: str, fingerprint: str) -> Keys:
    names.refuse_name(name)
    if principal:
        one(change.connection, principal)
    row = {"name": name, "principal": principal, "fingerprint": fingerprint}
    new = insert_into(change.connection, DEVICE).values(row).on_conflict_do_nothing().returning(DEVICE.c.name)
    if change.connection.execute(new).first() is None:
        raise CallerFault("exists", f"device {name} exists already", hint=f"`ostiary device remove {name}` ends it")
    change.note("device.add", f"device:{name}", after=row)
    return ()


def remove_device(change: Change, *, name: str) -> Keys:
    """Its certificate counts no more, nor does a token that was issued to it count as one of a device."""
    ends = delete(DEVICE).where(DEVICE.c.name == name).returning(DEVICE)
    gone = change.connection.execute(ends).mappings().one_or_none()
    if gone is None:
        raise CallerFault("no-such-device", f"there is no device {name}", hint="see `ostiary device list`")
    change.note("device.remove", f"device:{name}", before=dict(gone))
    return ()


def revoke_principal(change: Change, *, principal: str, reason: str = "") -> Keys:
    """Every token, session and grant of the principal ends; it may sign in again."""
    keys = end(change, principal, reason or "revoked")
    change.note("token.revoke", principal, reason=reason)
    return keys


def end(change: Change, principal: str, reason: str) -> Keys:
    """Everything that the principal was given ends."""
    keys = next_generation(change, principal, reason)
    _take_back(change, principal)
    return keys


def next_generation(change: Change, principal: str, reason: str) -> Keys:
    """A client's older tokens go by both names: as subject and as client. A role for a time goes with them."""
    at_s = int(change.now.timestamp())
    held = (PROPOSAL.c.principal == principal, PROPOSAL.c.until_s > at_s)
    change.connection.execute(update(PROPOSAL).where(*held).values(until_s=at_s))
    return _older(change, principal, reason)


def _older(change: Change, principal: str, reason: str) -> Keys:
    """What refuses every token from before."""
    up = update(PRINCIPAL).where(PRINCIPAL.c.id == principal).values(generation=PRINCIPAL.c.generation + 1)
    new = change.connection.execute(up.returning(PRINCIPAL.c.generation)).scalar_one_or_none()
    old = (new or missing(principal)) - 1
    kinds = ("gen", "cgen") if principal.startswith("client:") else ("gen",)
    return _revoke_keys(change, tuple(f"{kind}:{principal}#{old}" for kind in kinds), reason)


def revoke_grant(change: Change, *, grant: str, reason: str = "") -> Keys:
    """Every token of one grant ends."""
    if not names.GRANT.fullmatch(grant):
        raise CallerFault("no-such-grant", f"{grant!r} is no grant", hint="copy the `grant` of an event")
    change.connection.execute(update(GRANT).where(GRANT.c.id == grant).values(revoked=True))
    change.note("token.revoke", grant, reason=reason)
    return _revoke_keys(change, (f"grant:{grant}",), reason or "revoked")


def revoke_token(change: Change, *, jti: str, reason: str) -> Keys:
    """One access token ends."""
    change.note("token.revoke", jti, reason=reason)
    return _revoke_keys(change, (f"jti:{jti}",), reason)


def end_session(change: Change, principal: str, sid: str, reason: str) -> Keys:
    """One sign-in of the person ends, with all that was given in it; nothing where it is not his."""
    return end_sessions(change, reason, SESSION.c.sid == sid, SESSION.c.principal == principal)


def end_application(change: Change, principal: str, client: str, reason: str) -> Keys:
    """All that the person gave this client ends."""
    mine = (GRANT.c.principal == principal, GRANT.c.client == client, ~GRANT.c.revoked)
    gone = change.connection.scalars(update(GRANT).where(*mine).values(revoked=True).returning(GRANT.c.id)).all()
    change.note("token.revoke", principal, after={"client": client, "grants": len(gone)}, reason=reason)
    return _revoke_keys(change, tuple(f"grant:{grant}" for grant in gone), reason)


def end_sessions(change: Change, reason: str, *which: ColumnElement[bool]) -> Keys:
    """Every sign-in that is so ends, with all that was given in it, be the session itself over; their clients are told."""
    change.connection.execute(select(SESSION.c.digest).where(*which).with_for_update())  # nothing more is given in them
    farewell.tell(change, *which)
    whose, mine = (select(column).where(*which) for column in (SESSION.c.principal, SESSION.c.sid))
    given = update(GRANT).where(GRANT.c.principal.in_(whose), GRANT.c.sid.in_(mine))
    change.connection.execute(given.values(revoked=True))
    known = delete(KNOWN_BROWSER).where(KNOWN_BROWSER.c.principal.in_(whose), KNOWN_BROWSER.c.sid.in_(mine))
    change.connection.execute(known)
    gone = change.connection.execute(delete(SESSION).where(*which).returning(SESSION.c.sid, SESSION.c.principal)).all()
    for sid, principal in gone:
        change.note("session.end", principal, after={"sid": sid}, reason=reason)
    return _revoke_keys(change, tuple(f"sid:{sid}" for sid, _ in gone), reason)


def end_others(change: Change, *, principal: str, sid: str) -> Keys:
    """Everything that was given before ends, and every session but this one: it may rest on less than is asked now."""
    reason = "how he proves that it is he was changed"
    change.note("session.end", principal, after={"all but": sid}, reason=reason)
    _take_back(change, principal, but=sid)
    return _older(change, principal, reason)


def _take_back(change: Change, principal: str, but: str = "") -> None:
    """Grants, sessions and browsers, but for the session of this id."""
    farewell.tell(change, SESSION.c.principal == principal, SESSION.c.sid != but)
    for table in (SESSION, KNOWN_BROWSER):
        change.connection.execute(delete(table).where(table.c.principal == principal, table.c.sid != but))
    mine = (GRANT.c.principal == principal) | (GRANT.c.client == principal)
    change.connection.execute(update(GRANT).where(mine).values(revoked=True))


def _revoke_keys(change: Change, keys: Keys, reason: str) -> Keys:
    """Marks the keys revoked for as long as a token that carries one can live."""
    at_s = int(change.now.timestamp())
    directory.revoke(change.connection, keys, expires_at_s=at_s + REVOKED_S, reason=reason, at_us=to_us(change.now))
    return keys
