"""What an administrator can do, by name. Applying a policy is the whole product in one function: start reading here."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, to_builtins
from sqlalchemy.exc import DBAPIError

from ostiary.control import people, revisions, systems, watching
from ostiary.control.board import Board
from ostiary.control.documents import prove_document
from ostiary.control.holders import assigned, holders_of
from ostiary.control.reconcile import Translated
from ostiary.foundation.errors import OperatorFault, SystemFault
from ostiary.prove.difference import diff


class Applied(Struct, frozen=True, kw_only=True):
    """The revision in force, and what it changed."""

    revision: str
    before: str
    changes: list[dict[str, Any]]
    warnings: list[str]


def apply_policy(
    board: Board,
    actor: str,
    text: str,
    file: str,
    reason: str = "",
    *,
    files: Mapping[str, str] = {},
    dry_run: bool = False,
) -> Applied:
    """Puts the policy `text` in force at gate and guard, or changes nothing and says every problem at once.

    It may include `files`, which its caller has read: control reads none of them.
    """
    if not Path(file).is_absolute():
        raise OperatorFault("file-relative", f"{file} is no absolute path", hint="name the policy's file in full")
    with board.turn:
        with board.on.store.read() as connection:
            held, holders = assigned(connection), holders_of(connection)
        plan, warnings = prove_document(text, file, board.on.home, files, held)  # parse, check, compile, prove
        before = board.reconciler.plan
        changes = diff(before, plan, holders)  # what it widens and narrows, by meaning
        translated = board.reconciler.translated(plan)  # read by Envoy itself
        if not dry_run:
            act = revisions.Act(actor=actor, file=file, text=text, files=files, reason=reason, before=before.revision)
            _roll_out(board, act, translated, len(changes))
    told = [to_builtins(change) for change in changes]
    return Applied(revision=plan.revision, before=before.revision, changes=told, warnings=list(warnings))


def _roll_out(board: Board, act: revisions.Act, to: Translated, changes: int) -> None:
    """Recorded before it is in force: nothing is ever in force that the audit log does not know."""
    board.change(lambda connection: revisions.record(connection, act, to.plan, board.now, changes=changes))
    try:
        board.reconciler.apply(to)
    except Exception as problem:
        code = getattr(problem, "code", type(problem).__name__)
        with suppress(OSError, DBAPIError, SystemFault):  # `status` holds the log against what is in force
            board.change(lambda connection: revisions.record_failure(connection, act, to.plan, board.now, code))
        raise


Operation = Callable[..., Any]  # (board, actor, **parameters) -> JSON-able
OPERATIONS: Final[Mapping[str, Operation]] = {
    "policy.apply": apply_policy,
    "status": systems.status,
    "system.account": systems.set_account,
    "system.learn": systems.learn,
    "client.add": people.add_client,
    "client.change": people.change_client,
    "client.list": people.list_clients,
    "client.rotate": people.rotate_client,
    "client.certificate": people.issue_certificate,
    "user.add": people.add_user,
    "user.list": people.list_users,
    "user.password": people.set_password,
    "device.add": people.add_device,
    "device.list": people.list_devices,
    "device.remove": people.remove_device,
    "principal.show": people.show,
    "principal.roles": people.set_roles,
    "principal.disable": people.disable,
    "principal.enable": people.enable,
    "principal.remove": people.remove,
    "account.set": people.set_account,
    "account.remove": people.remove_account,
    "token.revoke": people.revoke,
    "key.rotate": people.rotate_keys,
    "alert.list": watching.list_alerts,
    "alert.show": watching.show_alert,
    "alert.acknowledge": watching.acknowledge,
    "alert.resolve": watching.resolve,
    "measure.list": watching.list_measures,
    "measure.undo": watching.undo,
}
