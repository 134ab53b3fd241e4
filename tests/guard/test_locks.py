"""Operations on one record are held in order until the gate has logged the answer."""

import asyncio
import json

import pytest

from ostiary.guard.locks import Busy, Locks

PAYMENT = ("erp", "account.payment", "5")
PARTY = ("erp", "party.party", "7")


def log(path, *decisions):
    with path.open("a") as file:
        file.writelines(json.dumps({"decision": name}) + "\n" for name in decisions)


async def test_the_second_waits_until_the_first_one_is_in_the_access_log(tmp_path):
    path = tmp_path / "access.jsonl"
    log(path, "b")  # an old line says nothing
    locks = Locks(path)
    await locks.hold("a", [PAYMENT])
    second = asyncio.create_task(locks.hold("b", [PARTY, PAYMENT]))
    done, _ = await asyncio.wait([second], timeout=0.05)
    assert not done
    log(path, "x", "a")
    await asyncio.wait_for(second, 2)
    locks.stop()


async def test_it_follows_the_log_when_it_is_rotated(tmp_path):
    path = tmp_path / "access.jsonl"
    log(path, "old")
    locks = Locks(path)
    await locks.hold("a", [PAYMENT])
    await locks.hold("b", [PARTY])
    log(path, "a")
    path.rename(tmp_path / "access-1.jsonl")
    log(path, "b")
    await asyncio.wait_for(locks.hold("c", [PARTY, PAYMENT]), 2)
    locks.stop()


async def test_it_gives_up_in_time_and_then_holds_nothing(tmp_path):
    locks = Locks(tmp_path / "access.jsonl", wait_max_s=0.05)
    await locks.hold("a", [PAYMENT])
    with pytest.raises(Busy):
        await locks.hold("b", [PARTY, PAYMENT])
    await locks.hold("c", [PARTY])
    locks.stop()


async def test_an_answer_that_is_never_logged_frees_the_record_after_a_time(tmp_path):
    locks = Locks(tmp_path / "access.jsonl", hold_max_s=0.05)
    await locks.hold("a", [PAYMENT])
    await asyncio.wait_for(locks.hold("b", [PAYMENT]), 2)
    locks.stop()


async def test_two_that_want_the_same_records_in_another_order_do_not_lock_each_other_out(tmp_path):
    path = tmp_path / "access.jsonl"
    locks = Locks(path)

    async def one(name, records):
        await locks.hold(name, records)
        log(path, name)

    await asyncio.wait_for(
        asyncio.gather(*[one(f"d{n}", [PAYMENT, PARTY] if n % 2 else [PARTY, PAYMENT]) for n in range(20)]), 4
    )
    locks.stop()


async def test_a_second_use_of_one_decision_id_is_refused(tmp_path):
    locks = Locks(tmp_path / "access.jsonl")
    await locks.hold("a", [PAYMENT])
    with pytest.raises(Busy):
        await locks.hold("a", [PARTY])
    locks.stop()
