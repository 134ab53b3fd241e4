"""Operations on clients, users, their tokens, and whom each is in the protected systems; what one takes away is refused at once.

An administrator leaves some of it to others: clients that register themselves, a directory that keeps users, providers. The
identity server has seen who asks; here it is carried out as an administrator's own wish would be.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial, wraps
from typing import Any, Final

from sqlalchemy import Connection

from ostiary.audit.log import Change
from ostiary.control import giving
from ostiary.control.board import Board
from ostiary.control.documents import offers
from ostiary.control.questions import giving_account, without_account
from ostiary.control.reconcile import fit
from ostiary.foundation.errors import CallerFault, OperatorFault
from ostiary.foundation.secret import Secret
from ostiary.identity import keys, passwords, principals, providers, provisioning, registration
from ostiary.identity.credentials import pepper
from ostiary.identity.principals import Keys
from ostiary.identity.published import Published
from ostiary.identity.request import Refused
from ostiary.monitor import alerts
from ostiary.monitor.rules import Finding
from ostiary.plan.model import HandOver, Kind, OwnerLeaves, System
from ostiary.prove.spelling import scope_slips
from ostiary.tls import authority

NOT_ASKED: Final = "the gate asks nobody for a certificate"
ASKING: Final = "set ask_client_certificate = true in settings.toml and start again"
WITHOUT_PKCE: Final = "without PKCE and nonce a stolen code is good: for tests that certify, and for nothing else"
Act = Callable[..., tuple[dict[str, Any], Keys]]  # (change, what is lent, **told) -> what came of it, what is revoked
ACTS: Final[Mapping[str, Act]] = {"register": registration.act, "scim": provisioning.act}


@wraps(registration.add_client, assigned=())  # whose parameters it takes
def add_client(
    board: Board, actor: str, *, client_id: str, roles: Sequence[str] = (), person: str = "", **more: Any
) -> dict[str, Any]:
    """Registers a client; its secret is in this answer and nowhere else."""
    told = {"client_id": client_id, "roles": roles, "person": person, **more}

    def act(change: Change) -> registration.Made:
        giving.allow_new(board, change, f"client:{client_id}", roles, person=person)
        return registration.add_client(change, sealer=board.on.sealer, **told)

    with board.turn:
        made = _told(board, board.add_to_directory(actor, act))
    return {**made, "warnings": [*_warned(board, client_id, more), *_without_account(board, made["id"])]}


@wraps(registration.change_client, assigned=())  # whose parameters it takes
def change_client(board: Board, actor: str, *, client_id: str, **told: Any) -> dict[str, Any]:
    def act(change: Change) -> Keys:
        if person := told.get("person"):
            roles = principals.one(change.connection, f"client:{client_id}")["roles"]
            giving.allow(change, board.reconciler.plan, f"client:{client_id}", roles, person=person)
        return registration.change_client(change, sealer=board.on.sealer, client_id=client_id, **told)

    with board.turn:
        before = {"tokens_before": "refused" if board.change_directory(actor, act) else "still good"}
    return show(board, actor, f"client:{client_id}") | before | {"warnings": _warned(board, client_id, told)}


def _warned(board: Board, client_id: str, told: Mapping[str, Any]) -> list[str]:
    """What of it means nothing, or too much, and what is still missing."""
    scopes, by_tls = told.get("scopes") or (), told.get("auth") in registration.BY_TLS
    notes = [*scope_slips(scopes, offers(board.reconciler.plan, board.on.home) if scopes else {})]
    if by_tls and not board.on.settings.ask_client_certificate:
        notes.append(f"{NOT_ASKED}: {ASKING}")
    elif told.get("auth") == "tls_client_auth":
        notes.append(f"`ostiary client certificate {client_id}` prints what it proves itself by")
    return [*notes, *([WITHOUT_PKCE] if told.get("pkce") == "off" else [])]


def _without_account(board: Board, principal: str) -> list[str]:
    plan = board.reconciler.plan
    barred = [one.name for one in plan.systems if principal in board.on.store.ask(without_account, plan, one)]
    return [f"its calls reach {one} with an account there: `{giving_account(principal, one)}`" for one in barred]


def disable(board: Board, actor: str, principal: str) -> dict[str, Any]:
    """Also the clients that this person answers for, unless the policy keeps them."""
    keep = board.reconciler.plan.when_owner_leaves is OwnerLeaves.STAY
    board.change_directory(actor, principals.disable, principal=principal, keep_clients=keep)
    return _switched(board, principal)


def enable(board: Board, actor: str, principal: str) -> dict[str, Any]:
    """The clients of this person stay as they are."""
    board.change_directory(actor, principals.enable, sealer=board.on.sealer, principal=principal)
    return _switched(board, principal)


def _switched(board: Board, principal: str) -> dict[str, Any]:
    """Whether it is active, and which of the clients that it answers for are not."""
    with board.on.store.read() as connection:
        clients = [one for one in principals.clients(connection) if one["id"] != one["person"] == principal]
        off = [one["id"] for one in clients if not one["active"]]
        return {"active": principals.one(connection, principal)["active"], "disabled_clients": off}


def rotate_client(board: Board, actor: str, client_id: str) -> dict[str, Any]:
    return _told(board, board.change(actor, registration.rotate_secret, sealer=board.on.sealer, client_id=client_id))


def issue_certificate(board: Board, actor: str, client_id: str, days: int = authority.LEAF_DAYS) -> dict[str, Any]:
    """A certificate for a client, by the gate's own authority; its key is in this answer and nowhere else."""
    issued = _issued(board, client_id, days)
    board.change(actor, registration.note_certificate, client_id=client_id, days=days, key=issued.public_key)
    return {"certificate": issued.certificate.decode(), "key": issued.key.decode()}


def add_device(
    board: Board, actor: str, name: str, principal: str = "", days: int = authority.LEAF_DAYS
) -> dict[str, Any]:
    """Registers a device, for one principal or for everybody; its key is in this answer and nowhere else."""
    issued = _issued(board, name, days)
    board.add_to_directory(actor, principals.add_device, name=name, principal=principal, fingerprint=issued.fingerprint)
    return {"certificate": issued.certificate.decode(), "key": issued.key.decode()}


def _issued(board: Board, name: str, days: int) -> authority.Issued:
    if not board.on.settings.ask_client_certificate:
        raise OperatorFault("certificates-not-asked", NOT_ASKED, hint=ASKING)
    return authority.issue_client(board.on.home, name, days=days, now=board.now)


def _told(board: Board, made: registration.Made) -> dict[str, Any]:
    secret = {"client_secret": made.secret.reveal()} if made.secret else {}
    return {"id": made.id, "client_id": made.id.partition(":")[2], **secret, "issuer": board.on.settings.issuer}


def list_users(board: Board, _: str) -> list[dict[str, Any]]:
    return _with_locks(board, principals.users)


def show(board: Board, _: str, principal: str) -> dict[str, Any]:
    return _with_locks(board, lambda connection: [principals.one(connection, principal)])[0]


def _with_locks(board: Board, which: Callable[[Connection], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    with board.on.store.read() as connection:
        key = pepper(connection, board.on.sealer)
        return principals.with_locks(connection, key, which(connection), int(board.now.timestamp()))


def add_user(
    board: Board, actor: str, *, login: str, password: str, name: str = "", roles: Sequence[str] = (), person: str = ""
) -> dict[str, Any]:
    hashed = _hashed(board, login, password)  # slow: before anybody has to wait for it

    def act(change: Change) -> str:
        giving.allow_new(board, change, f"user:{login}", roles, person=person)
        return principals.add_user(change, login=login, hashed=hashed, name=name, roles=roles, person=person)

    with board.turn:
        made = board.add_to_directory(actor, act)
    return {"id": made, "warnings": _without_account(board, made)}


def set_password(board: Board, actor: str, login: str, password: str) -> None:
    """A new password; sessions and tokens from before end."""
    hashed = _hashed(board, login, password)
    board.change_directory(actor, principals.set_password, sealer=board.on.sealer, login=login, hashed=hashed)


def _hashed(board: Board, login: str, password: str) -> str:
    stolen = passwords.stolen_list(board.on.home, board.on.settings)
    return passwords.hash_password(Secret(password), login=login, breached=stolen)


def revoke(board: Board, actor: str, principal: str = "", grant: str = "", reason: str = "") -> dict[str, Any]:
    """Every token of a principal, or of one grant, is refused from now on."""
    if bool(principal) == bool(grant):
        raise OperatorFault("revoke-whose", "name a principal or a grant, one of them", hint="--principal user:anna")

    def act(change: Change) -> Keys:
        if principal:
            named = principals.in_full(change.connection, principal)
            return principals.revoke_principal(change, principal=named, reason=reason)
        return principals.revoke_grant(change, grant=grant, reason=reason)

    return {"keys": list(board.change_directory(actor, act))}


def rotate_keys(board: Board, actor: str, reason: str = "", *, compromised: bool = False) -> dict[str, Any]:
    """Tokens are signed with new keys; of compromised ones every token is refused from now on."""
    signs = dict[str, str]()
    facts: dict[str, Any] = {"compromised": compromised, "reason": reason}

    def act(change: Change) -> Keys:
        for purpose in keys.in_use(change.connection):
            signs[purpose] = keys.rotate(change, board.on.sealer, purpose=purpose, **facts)
        if compromised:
            found = Finding(rule="keys-compromised", key="keys", at=board.now, evidence={"by": actor, "reason": reason})
            alerts.fire(change.connection, found)
        return ()

    board.change_directory(actor, act)
    return {"signs": signs}


def set_account(board: Board, actor: str, principal: str, system: str, login: str, password: str) -> None:  # noqa: PLR0917
    """Says as which ERP user the principal's calls arrive at `system`; an ERP that can be asked lets it in first."""
    secret, there = Secret(password), _system(board, system)
    asked = there.kind is Kind.TRYTON or there.hand_over is HandOver.OAUTH
    if not fit(there, login, password):
        told = "the login or key holds what no header may: control characters, or letters beyond ASCII"
        raise OperatorFault("key-unfit", told, hint="give it as the ERP shows it, in one line")
    board.on.store.ask(principals.one, principal)
    uid = _erp_user(board, principal, system, login, secret) if asked else ""
    account: dict[str, Any] = {"principal": principal, "system": system, "login": login, "password": secret, "uid": uid}
    board.change_directory(actor, principals.set_erp_account, sealer=board.on.sealer, **account)


def _erp_user(board: Board, principal: str, system: str, login: str, password: Secret) -> str:
    try:
        return board.reconciler.erp_user(system, login, password)
    except OperatorFault as problem:
        again = giving_account(principal, system, login)
        raise OperatorFault(problem.code, problem.message, hint=f"as {system} knows that user: {again}") from problem


def set_reader(board: Board, actor: str, system: str, login: str, password: str) -> dict[str, Any]:
    """The ERP user by whom the guard itself reads links, origins and the catalogue.

    What there is, is learnt by it first: one that does not work replaces nothing.
    """
    _refuse_described(board, system)
    secret = Secret(password)
    learnt = board.reconciler.learn(system, login, secret)
    account: dict[str, Any] = {"system": system, "login": login, "password": secret, "uid": learnt["uid"]}
    board.change_directory(actor, principals.set_reader, sealer=board.on.sealer, **account)
    return learnt


def learn(board: Board, _: str, system: str) -> dict[str, Any]:
    """Has the guard ask the ERP what it offers; what it does not offer is denied."""
    _refuse_described(board, system)
    return board.reconciler.learn(system)


def _refuse_described(board: Board, name: str) -> None:
    if _system(board, name).kind is Kind.OPENAPI:
        told, hint = f"{name} offers what its OpenAPI document says", "change that file, then `ostiary policy apply`"
        raise OperatorFault("no-system", told, hint=hint)


def _system(board: Board, name: str) -> System:
    known = {system.name: system for system in board.reconciler.plan.systems}
    if name not in known:
        raise OperatorFault("no-system", f"there is no system {name!r}", hint=f"one of: {', '.join(sorted(known))}")
    return known[name]


# --- what is left to others


def change(board: Board, act: str, by: str, told: dict[str, Any]) -> dict[str, Any]:
    """One act of one actor, in one transaction: what came of it, or why it is refused."""
    done, keep = dict[str, Any](), board.reconciler.plan.when_owner_leaves is OwnerLeaves.STAY
    lent = provisioning.Lent(board.on.sealer, partial(giving.allow_new, board), keep)

    def carry_out(change: Change) -> Keys:
        answer, revoked = ACTS[act](change, lent, **told)
        done.update(answer)
        return revoked

    # Who registers gets a secret, once: he hears of it though gate and guard do later.
    begins = act == "register" and told["method"] == "POST"
    try:
        with board.turn:
            (board.add_to_directory if begins else board.change_directory)(by, carry_out)
    except Refused as refused:
        return {"refused": refused.told}
    return done


@wraps(registration.open_registration, assigned=())  # whose parameters it takes
def open_registration(board: Board, actor: str, **told: Any) -> Mapping[str, Any]:
    """The initial access tokens are in this answer and nowhere else."""
    made = board.change(actor, registration.open_registration, sealer=board.on.sealer, **told)
    return {"tokens": [one.reveal() for one in made], "endpoint": f"{board.on.settings.issuer}/register"}


@wraps(provisioning.allow, assigned=())  # whose parameters it takes
def allow_provisioning(
    board: Board, actor: str, *, client_id: str, roles: Sequence[str] = (), **told: Any
) -> dict[str, Any]:
    """Tells which roles the client may give now and could not before, and the other way round."""
    after = {one.partition("=")[0] for one in roles}
    with board.turn:
        giving.refuse_unknown(board.reconciler.plan, after)
        before = {*(board.on.store.ask(provisioning.opened, f"client:{client_id}") or ())}
        board.change_directory(actor, provisioning.allow, client_id=client_id, roles=roles, **told)
    return {"opened": sorted(after - before), "closed": sorted(before - after)}


def add_provider(  # noqa: PLR0917  what is told of it
    board: Board, actor: str, name: str, issuer: str, client_id: str, secret: str, title: str = "", accounts: str = "",
    mfa: str = "", acrs: str = "", scopes: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Trusts it, once it has shown that it is who it is taken for."""
    if not secret:
        hint = "--secret-file FILE, or - for standard input"
        raise OperatorFault("secret-missing", "no secret is given, or the file holds none", hint=hint)
    facts = {"name": name, "issuer": issuer, "client_id": client_id, "title": title, "accounts": accounts, "mfa": mfa}
    one = providers.fit({what: value for what, value in {**facts, "acrs": acrs, "scopes": scopes}.items() if value})
    Published(board.on.settings.upstream_authorities, board.on.clock).metadata(one.issuer)
    board.change(actor, providers.add_provider, sealer=board.on.sealer, one=one, secret=Secret(secret))
    place = f"{board.on.settings.issuer}/provider/{name}"
    return {"redirect_uri": f"{place}/callback", "backchannel_logout_uri": f"{place}/logout"}


def map_role(board: Board, actor: str, *, name: str, claim: str, value: str, role: str) -> None:
    """Whoever comes with this value in this claim has the role, from the next sign-in on."""

    def act(change: Change) -> None:
        giving.allow(change, board.reconciler.plan, f"provider:{name}", [role])  # raises where there is no such role
        providers.map_role(change, name=name, claim=claim, value=value, role=role)

    with board.turn:
        board.change(actor, act)


def arrive(board: Board, *, provider: str, subject: str, roles: list[str], login: str, title: str) -> None:
    """The account of who came has just these roles, of those that the policy has; raises with why not.

    What is gone is taken at once; what others have to say yes to is proposed, and waits.
    """
    with board.turn:
        _arrive(board, provider, subject, roles, {"login": login, "name": title})


def _arrive(board: Board, provider: str, subject: str, roles: list[str], texts: dict[str, str]) -> None:
    actor, why = f"provider:{provider}", f"as {provider} says"
    with board.on.store.read() as connection:
        trusted = providers.find(connection, provider)
        account = providers.account(connection, trusted.issuer, subject)
    if account is None:
        principal = board.add_to_directory(actor, providers.add_account, provider=trusted, subject=subject, **texts)
    else:
        principal = account["id"]
    held, wanted = account["roles"] if account else [], {role.name for role in board.reconciler.plan.roles} & {*roles}
    if not wanted.issuperset(held):
        giving.set_roles(board, actor, principal, sorted(wanted.intersection(held)), why)
    if not wanted.issubset(held):
        with suppress(CallerFault):  # too much waits for others already: nobody is kept from what he has
            giving.set_roles(board, actor, principal, sorted(wanted), why)
