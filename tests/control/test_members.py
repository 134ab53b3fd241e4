"""What operations that wait hold up, and what they do not; what identity answers when control fails."""

import asyncio
import json
import socket
from threading import Event, Thread
from types import SimpleNamespace

import httpx
import pytest

from ostiary.control import members
from ostiary.control.installation import Administrators
from ostiary.foundation import errors
from ostiary.foundation.errors import SystemFault
from ostiary.foundation.home import Home

PATIENCE_S = 20


def test_operations_that_wait_hold_up_neither_revocations_nor_chores(monkeypatch):
    monkeypatch.setattr(members, "OPERATIONS_MAX", 1)
    begun, turn = Event(), Event()

    def wait(*_):
        begun.set()
        return turn.wait(PATIENCE_S)

    def revoked(_, keys: list[str]):
        return keys

    async def go():
        renewed = asyncio.Event()
        loop = asyncio.get_running_loop()
        board = SimpleNamespace(administrators=Administrators(frozenset({"uid:7"}), frozenset()))
        app = members.admin_api(board, {"wait": wait}, {"revoked": revoked})
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app, client=("uid:7", 1)), base_url="http://control"
        ) as client:
            operations = [asyncio.create_task(client.post("/operations/wait")) for _ in range(100)]
            await asyncio.to_thread(begun.wait, PATIENCE_S)
            renew = asyncio.create_task(members._every(60, lambda: loop.call_soon_threadsafe(renewed.set)))
            try:
                told = await asyncio.wait_for(client.post("/internal/revoked", json={"keys": ["now"]}), PATIENCE_S)
                await asyncio.wait_for(renewed.wait(), PATIENCE_S)
                assert not any(one.done() for one in operations)
            finally:
                turn.set()
                renew.cancel()
            answers = await asyncio.gather(*operations)
        return told.json(), {answer.json()["result"] for answer in answers}

    assert asyncio.run(go()) == ({"result": ["now"]}, {True})


@pytest.fixture
def on(folder):
    home = Home(root=folder / "home")
    home.create()
    return SimpleNamespace(home=home)


@pytest.fixture
def control(on):
    """Answers once, that it is done or that it failed."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(on.home.socket("control")))
    listener.listen()

    def answer(told):
        text = json.dumps(told).encode()
        connection = listener.accept()[0]
        with connection:
            asked = b""
            while b"jti:a" not in asked:  # head and body come apart: who answers the head alone breaks the pipe
                asked += connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 -\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text))

    def begin(told):
        Thread(target=answer, args=(told,), daemon=True).start()

    yield begin
    listener.close()


def test_a_revocation_that_control_could_not_push_is_not_answered_as_done(on, control):
    control({"error": errors.told(SystemFault("store-fails", "disk or database fails"))})
    with pytest.raises(SystemFault):
        members._tell_control(on, ["jti:a"])
    control({"result": {}})
    members._tell_control(on, ["jti:a"])


def test_a_control_that_is_down_does_not_keep_anybody_from_revoking(on):
    members._tell_control(on, ["jti:a"])
