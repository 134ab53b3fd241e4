"""An ERP that takes its time, or refuses, is told apart from one that is not there."""

import asyncio
import json
import socket

import pytest

from ostiary.foundation.secret import Secret
from ostiary.guard import erp as hand_over
from ostiary.guard.adapters import TrytonErp
from ostiary.guard.erp import PATIENCE_S, TIMEOUT_S, NotEstablished, NotLetIn, Tried
from upstream import Echo, Server


def asked(port):
    async def go():
        tried = Tried("gateway", Secret("x"))
        erp = TrytonErp(f"http://127.0.0.1:{port}", "erp", tried, timeout_s=0.05)
        try:
            await erp.user(tried.account)
        finally:
            await erp.close()

    asyncio.run(go())


def test_an_erp_that_takes_the_call_and_does_not_answer_in_time_is_called_slow():
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(NotEstablished, match=r"slow: no answer in 0\.05 s; try again"),
    ):
        asked(silent.getsockname()[1])


def test_an_erp_that_is_not_there_is_said_not_to_answer():
    with pytest.raises(NotEstablished, match="the ERP does not answer"):
        asked(9)


def test_an_administrator_waits_longer_for_a_cold_erp_than_a_call_does():
    assert PATIENCE_S > 5 * TIMEOUT_S


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((200, '{"error": ["UserError", ["no such record"]]}'), "the ERP shows no such account.payment: there is none"),
        ((500, "{}"), "the ERP answers model.account.payment.read with status 500"),
    ],
)
def test_an_erp_that_refuses_is_not_said_to_be_silent(answer, told):
    def reply(seen):
        login = json.loads(seen["body"])["method"] == "common.db.login"
        status, text = (200, '{"result": [7, "token"]}') if login else answer
        return status, {}, text

    async def go():
        erp = TrytonErp(f"http://127.0.0.1:{server.server_port}", "erp", Tried("gateway", Secret("x")))
        try:
            await erp.rows("account.payment", ["999"], ["state"])
        finally:
            await erp.close()

    server = Server(("127.0.0.1", 0), Echo).start(reply)
    try:
        with pytest.raises(NotEstablished, match=told):
            asyncio.run(go())
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        ((503, "busy"), NotEstablished, "answers a login at database erp with status 503"),
        ((404, "{}"), NotEstablished, "answers a login at database erp with status 404"),
        ((401, "{}"), NotLetIn, "does not let gateway in with the password given for it"),
    ],
)
def test_how_a_login_failed_is_told_to_all_who_ask_a_moment_later(answer, kind, told):
    """A Tryton that is only busy is not told as a wrong password."""

    async def go():
        tried = Tried("gateway", Secret("x"))
        erp = TrytonErp(f"http://127.0.0.1:{server.server_port}", "erp", tried)
        try:
            return await asyncio.gather(*(erp.user(tried.account) for _ in range(5)), return_exceptions=True)
        finally:
            await erp.close()

    server = Server(("127.0.0.1", 0), Echo).start(lambda _: (answer[0], {}, answer[1]))
    try:
        problems = asyncio.run(go())
    finally:
        server.stop()
    assert {type(problem) for problem in problems} == {kind}
    assert all(told in str(problem) for problem in problems)
    assert len(server.seen) == 1


def test_an_erp_that_was_busy_is_asked_again_soon(monkeypatch):
    monkeypatch.setattr(hand_over, "SILENT_S", 0.01)

    async def go():
        tried = Tried("gateway", Secret("x"))
        erp = TrytonErp(f"http://127.0.0.1:{server.server_port}", "erp", tried)
        try:
            with pytest.raises(NotEstablished):
                await erp.user(tried.account)
            server.reply = lambda _: (200, {}, '{"result": [7, "token"]}')
            await asyncio.sleep(0.05)
            return await erp.user(tried.account)
        finally:
            await erp.close()

    server = Server(("127.0.0.1", 0), Echo).start(lambda _: (503, {}, ""))
    try:
        assert asyncio.run(go()) == "7"
    finally:
        server.stop()
