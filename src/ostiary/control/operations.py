"""What an administrator can do to the policy: each act is checked, recorded with its actor, and then carried out."""

from pathlib import Path
from typing import Any

from msgspec import Struct, to_builtins
from sqlalchemy import insert, select

from ostiary.audit.log import Entry, append
from ostiary.compile import compile_policy
from ostiary.control.board import Board
from ostiary.control.documents import described_routes
from ostiary.foundation.errors import OperatorFault
from ostiary.plan.model import Plan, from_json, to_json
from ostiary.policy.parse import parse
from ostiary.prove import check, diff
from ostiary.prove.embedded import run_tests
from ostiary.store.tables.control import REVISION
from ostiary.store.tables.directory import ASSIGNMENT


class Applied(Struct, frozen=True, kw_only=True):
    """The revision in force, and what it changed."""

    revision: str
    before: str
    changes: list[dict[str, Any]]
    warnings: list[str]


def apply_policy(board: Board, actor: str, text: str, file: str, reason: str = "", *, dry_run: bool = False) -> Applied:
    """Puts the policy `text` in force at gate and guard, or changes nothing and says every problem at once."""
    plan, warnings = prove_policy(board, text, file)
    before = board.reconciler.plan()
    changes = diff(before, plan)
    board.reconciler.validate(plan)
    applied = Applied(
        revision=plan.revision,
        before=before.revision,
        changes=[to_builtins(change) for change in changes],
        warnings=warnings,
    )
    if not dry_run:
        _record(board, actor, plan, text, file, reason, applied)
        board.reconciler.apply(plan)
    return applied
