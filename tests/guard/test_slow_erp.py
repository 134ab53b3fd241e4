"""An ERP that takes its time, or refuses, is told apart from one that is not there."""

import asyncio
import json
import socket

import pytest

from ostiary.foundation.secret import Secret
from ostiary.guard.erp import NotEstablished
from ostiary.guard.tryton import PATIENCE_S, TIMEOUT_S, Tried, TrytonErp
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
