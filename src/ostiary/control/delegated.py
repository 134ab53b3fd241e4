"""What an administrator leaves to others: clients that register themselves, and a company's directory that keeps users.

The identity server has seen who asks; here it is carried out as an administrator's own wish would be.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Final

from ostiary.audit.log import Change
from ostiary.control import giving, holders
from ostiary.control.board import Board
from ostiary.identity import dynamic, provisioning
from ostiary.identity.principals import Keys
from ostiary.identity.provisioning import Lent
from ostiary.identity.request import Refused
from ostiary.plan.model import OwnerLeaves

ACTS: Final[Mapping[str, Callable[..., tuple[dict[str, Any], Keys]]]] = {
    "register": dynamic.act,
    "scim": provisioning.act,
}


def change(board: Board, body: bytes) -> bytes:
    """One act of one actor, in one transaction: what came of it, or why it is refused."""
    asked, done = json.loads(body), dict[str, Any]()

    def may(change: Change, principal: str, roles: Sequence[str]) -> None:
        giving.refuse_alone(board, roles)
        holders.allow(change, board.reconciler.plan, principal, roles)

    keep = board.reconciler.plan.when_owner_leaves is OwnerLeaves.STAY

    def act(change: Change) -> Keys:
        answer, keys = ACTS[asked["act"]](change, Lent(board.on.sealer, may, keep), **asked["told"])
        done.update(answer)
        return keys

    try:
        with board.turn:
            board.change_directory(asked["actor"], act)
    except Refused as refused:
        done = {"refused": refused.told}
    return json.dumps(done).encode()


@wraps(dynamic.open_registration, assigned=())  # whose parameters it takes
def open_registration(board: Board, actor: str, **told: Any) -> Mapping[str, Any]:
    """The initial access tokens are in this answer and nowhere else."""
    made = board.change(actor, lambda change: dynamic.open_registration(change, sealer=board.on.sealer, **told))
    return {"tokens": [one.reveal() for one in made], "endpoint": f"{board.on.settings.issuer}/register"}
