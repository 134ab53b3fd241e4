"""The other Python processes of one installation: the authorization server and the guard."""

import json
from collections.abc import Sequence
from http.client import HTTPException
from logging import getLogger

import anyio

from ostiary.control.installation import Installation
from ostiary.control.process import serve
from ostiary.foundation import unix
from ostiary.guard import app as guard
from ostiary.identity import app as identity

log = getLogger(__name__)


async def run_identity(on: Installation) -> None:
    """Sign-in, tokens and revocation, reached through the gate only."""

    async def revoked(keys: Sequence[str]) -> None:
        await anyio.to_thread.run_sync(_tell_control, on, list(keys))

    app = identity.create(on.store, on.sealer, on.settings, on.clock, revoked=revoked, home=on.home)
    try:
        await serve((app, on.home.socket("identity")))
    finally:
        app.state.server.close()
        on.store.close()


def _tell_control(on: Installation, keys: list[str]) -> None:
    """The revocation is in the store already: a control that is down finds it there when it starts."""
    try:
        unix.ask(on.home.socket("control"), "POST", "/internal/revoked", json.dumps({"keys": keys}).encode())
    except (OSError, HTTPException):
        log.exception("control could not be told of a revocation; the gate learns of it when control is back")


async def run_guard(on: Installation) -> None:
    """The look inside: one socket for the gate, one for control."""
    made = guard.create(on.home, on.store, on.sealer, on.settings, on.clock)
    async with made.running():
        await serve((made.check, on.home.socket("guard")), (made.inside, on.home.socket("guard-control")))
    on.store.close()
