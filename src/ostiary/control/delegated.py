"""What an administrator leaves to others: clients that register themselves, a directory that keeps users, providers.

The identity server has seen who asks; here it is carried out as an administrator's own wish would be.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from typing import Any, Final

from ostiary.audit.log import Change
from ostiary.control import giving
from ostiary.control.board import Board
from ostiary.foundation.errors import CallerFault
from ostiary.foundation.secret import Secret
from ostiary.identity import dynamic, providers, provisioning
from ostiary.identity.credentials import digest, pepper
from ostiary.identity.principals import Keys
from ostiary.identity.provisioning import Lent
from ostiary.identity.published import Published
from ostiary.identity.request import Refused
from ostiary.plan.model import OwnerLeaves

Act = Callable[..., tuple[dict[str, Any], Keys]]  # (change, what is lent, **told) -> what came of it, what is revoked
ACTS: Final[Mapping[str, Act]] = {"register": dynamic.act, "scim": provisioning.act}


def change(board: Board, act: str, by: str, told: dict[str, Any]) -> dict[str, Any]:
    """One act of one actor, in one transaction: what came of it, or why it is refused."""
    done = dict[str, Any]()

    def may(change: Change, principal: str, roles: Sequence[str]) -> None:
        giving.allow_new(board, change, principal, roles)

    keep = board.reconciler.plan.when_owner_leaves is OwnerLeaves.STAY

    def carry_out(change: Change) -> Keys:
        answer, keys = ACTS[act](change, Lent(board.on.sealer, may, keep), **told)
        done.update(answer)
        return keys

    # Who registers gets a secret, once: he hears of it though gate and guard do later.
    begins = act == "register" and told["method"] == "POST"
    try:
        with board.turn:
            (board.add_to_directory if begins else board.change_directory)(by, carry_out)
    except Refused as refused:
        return {"refused": refused.told}
    return done


@wraps(dynamic.open_registration, assigned=())  # whose parameters it takes
def open_registration(board: Board, actor: str, **told: Any) -> Mapping[str, Any]:
    """The initial access tokens are in this answer and nowhere else."""
    made = board.change(actor, lambda change: dynamic.open_registration(change, sealer=board.on.sealer, **told))
    return {"tokens": [one.reveal() for one in made], "endpoint": f"{board.on.settings.issuer}/register"}


@wraps(provisioning.allow, assigned=())  # whose parameters it takes
def allow_provisioning(
    board: Board, actor: str, *, client_id: str, roles: Sequence[str] = (), **told: Any
) -> dict[str, Any]:
    """Tells which roles the client may give now and could not before, and the other way round."""
    after, given = {one.partition("=")[0] for one in roles}, {"client_id": client_id, "roles": roles, **told}
    with board.turn:
        giving.refuse_unknown(board.reconciler.plan, after)
        with board.on.store.read() as connection:
            before = {*(provisioning.opened(connection, f"client:{client_id}") or ())}
        board.change_directory(actor, lambda change: provisioning.allow(change, **given))
    return {"opened": sorted(after - before), "closed": sorted(before - after)}


def add_provider(  # noqa: PLR0917  what is told of it
    board: Board, actor: str, name: str, issuer: str, client_id: str, secret: providers.Text, title: str = "", accounts: str = "",
    mfa: str = "", acrs: str = "", scopes: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Trusts it, once it has shown that it is who it is taken for."""
    facts = {"name": name, "issuer": issuer, "client_id": client_id, "title": title, "accounts": accounts, "mfa": mfa}
    one = providers.fit({what: value for what, value in {**facts, "acrs": acrs, "scopes": scopes}.items() if value})
    Published(board.on.settings.upstream_authorities, board.on.clock).metadata(one.issuer)
    told: dict[str, Any] = {"sealer": board.on.sealer, "one": one, "secret": Secret(secret)}
    board.change(actor, lambda change: providers.add_provider(change, **told))
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
        own = digest(pepper(connection, board.on.sealer), "outside", trusted.issuer, subject)
    if account is None:
        told: dict[str, Any] = {**texts, "provider": trusted, "subject": subject, "digest": own}
        principal = board.add_to_directory(actor, lambda change: providers.add_account(change, **told))
    else:
        principal = account["id"]
    held, wanted = account["roles"] if account else [], {role.name for role in board.reconciler.plan.roles} & {*roles}
    if not wanted.issuperset(held):
        giving.set_roles(board, actor, principal, sorted(wanted.intersection(held)), why)
    if not wanted.issubset(held):
        with suppress(CallerFault):  # too much waits for others already: nobody is kept from what he has
            giving.set_roles(board, actor, principal, sorted(wanted), why)
