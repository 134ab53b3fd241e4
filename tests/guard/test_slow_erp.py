"""An ERP that takes its time is told apart from one that is not there."""

import asyncio
import socket

import pytest

from ostiary.foundation.secret import Secret
from ostiary.guard.accounts import NotEstablished
from ostiary.guard.connector import PATIENCE_S, TIMEOUT_S, Tried, TrytonErp


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
