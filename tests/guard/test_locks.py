"""Operations on one record are held in order until the gate has logged the answer."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lines import written
from ostiary.guard.locks import HELD_EACH_MAX, WAITING_EACH_MAX, Busy, Locks

PAYMENT = ("erp", "account.payment", "5")
PARTY = ("erp", "party.party", "7")


def log(path, *decisions, **more):
    facts = {"at": "2026-03-03T10:00:00Z", "upstream_us": 7, **more}
    with path.open("ab") as file:
        file.writelines(written(decision=name, **facts) for name in decisions)


async def test_the_second_waits_until_the_first_one_is_in_the_access_log(tmp_path):
    path = tmp_path / "access.jsonl"
    log(path, "b")  # an old line says nothing
    locks = Locks(path)
    await locks.hold("a", [PAYMENT], "anna")
    second = asyncio.create_task(locks.hold("b", [PARTY, PAYMENT], "anna"))
    done, _ = await asyncio.wait([second], timeout=0.05)
    assert not done
    log(path, "x", "a")
    await asyncio.wait_for(second, 2)
    locks.stop()


@pytest.mark.parametrize("flags", ["DC", "UT", "UR", "UC", "SI", "-"])
async def test_a_caller_who_hangs_up_or_a_gate_that_gives_up_does_not_end_what_the_erp_still_does(tmp_path, flags):
    path = tmp_path / "access.jsonl"
    locks = Locks(path, wait_max_s=0.1)
    await locks.hold("a", [PAYMENT], "anna")
    log(path, "a", upstream_us=None, flags=flags, reason="unavailable")
    with pytest.raises(Busy):
        await locks.hold("b", [PAYMENT], "anna")
    locks.stop()


async def test_who_hangs_up_again_and_again_holds_no_more_records_than_one_request_may_name(tmp_path):
    locks = Locks(tmp_path / "access.jsonl")
    many = [("erp", "party.party", str(number)) for number in range(HELD_EACH_MAX)]
    await locks.hold("a", many, "anna")
    with pytest.raises(Busy):
        await locks.hold("b", [PAYMENT], "anna")
    await locks.hold("c", [PAYMENT], "ben")
    locks.stop()


@pytest.mark.parametrize("flags", ["UH", "UF,URX", "UAEX"])
async def test_what_was_never_sent_is_done_with(tmp_path, flags):
    path = tmp_path / "access.jsonl"
    locks = Locks(path)
    await locks.hold("a", [PAYMENT], "anna")
    log(path, "a", upstream_us=None, flags=flags)
    await asyncio.wait_for(locks.hold("b", [PAYMENT], "anna"), 2)
    locks.stop()


async def test_it_follows_the_log_when_it_is_rotated(tmp_path):
    path = tmp_path / "access.jsonl"
    log(path, "old")
    locks = Locks(path)
    await locks.hold("a", [PAYMENT], "anna")
    await locks.hold("b", [PARTY], "anna")
    log(path, "a")
    path.rename(tmp_path / "access-1.jsonl")
    log(path, "b")
    await asyncio.wait_for(locks.hold("c", [PARTY, PAYMENT], "anna"), 2)
    locks.stop()


async def test_a_log_that_can_not_be_read_for_a_while_is_read_on_where_it_was(tmp_path, caplog):
    path = tmp_path / "access.jsonl"
    log(path, "old")
    locks = Locks(path)
    await locks.hold("a", [PAYMENT], "anna")
    await locks.hold("b", [PARTY], "anna")
    path.rename(tmp_path / "aside")
    path.symlink_to(path)  # a loop: an error of the system that is not "no such file"
    second = asyncio.create_task(locks.hold("c", [PARTY, PAYMENT], "ben"))
    await asyncio.wait([second], timeout=0.05)
    await locks.hold("d", [("erp", "party.party", "8")], "anna")  # a new one in between does not skip anything
    log(tmp_path / "aside", "a", "b")
    path.unlink()
    (tmp_path / "aside").rename(path)
    await asyncio.wait_for(second, 2)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    locks.stop()


async def test_a_watcher_that_ended_is_followed_by_one_that_skips_nothing(tmp_path):
    path = tmp_path / "access.jsonl"
    locks = Locks(path)
    await locks.hold("a", [PAYMENT], "anna")
    locks._watcher.cancel()
    await asyncio.gather(locks._watcher, return_exceptions=True)
    log(path, "a")
    await locks.hold("b", [PARTY], "anna")
    await asyncio.wait_for(locks.hold("c", [PAYMENT], "ben"), 2)
    locks.stop()


async def test_it_gives_up_in_time_and_then_holds_nothing(tmp_path):
    locks = Locks(tmp_path / "access.jsonl", wait_max_s=0.05)
    await locks.hold("a", [PAYMENT], "anna")
    with pytest.raises(Busy):
        await locks.hold("b", [PARTY, PAYMENT], "anna")
    await locks.hold("c", [PARTY], "anna")
    locks.stop()


async def test_an_answer_that_is_never_logged_frees_the_record_after_a_time(tmp_path):
    locks = Locks(tmp_path / "access.jsonl", hold_max_s=0.05)
    await locks.hold("a", [PAYMENT], "anna")
    await asyncio.wait_for(locks.hold("b", [PAYMENT], "anna"), 2)
    locks.stop()


async def test_two_that_want_the_same_records_in_another_order_do_not_lock_each_other_out(tmp_path):
    path = tmp_path / "access.jsonl"
    locks = Locks(path)

    async def one(name, records):
        await locks.hold(name, records, name)
        log(path, name)

    await asyncio.wait_for(
        asyncio.gather(*[one(f"d{n}", [PAYMENT, PARTY] if n % 2 else [PARTY, PAYMENT]) for n in range(20)]), 4
    )
    locks.stop()


async def test_a_second_use_of_one_decision_id_is_refused(tmp_path):
    locks = Locks(tmp_path / "access.jsonl")
    await locks.hold("a", [PAYMENT], "anna")
    with pytest.raises(Busy):
        await locks.hold("a", [PARTY], "anna")
    locks.stop()


async def test_nobody_is_overtaken_by_one_who_wants_less(tmp_path):
    locks = Locks(tmp_path / "access.jsonl")
    await locks.hold("a", [PAYMENT], "anna")
    wide = asyncio.create_task(locks.hold("b", [PARTY, PAYMENT], "ben"))
    await asyncio.sleep(0)
    late = asyncio.create_task(locks.hold("c", [PARTY], "carla"))
    await asyncio.sleep(0)
    locks.release("a")
    await asyncio.wait_for(wide, 2)
    assert not late.done()
    locks.release("b")
    await asyncio.wait_for(late, 2)
    locks.stop()


async def test_a_flood_by_one_person_neither_waits_for_ever_nor_keeps_others_out(tmp_path):
    locks = Locks(tmp_path / "access.jsonl", wait_max_s=60)
    await locks.hold("first", [PAYMENT], "mallory")
    flood = [asyncio.create_task(locks.hold(f"m{n}", [PAYMENT], "mallory")) for n in range(1_000)]
    await asyncio.sleep(0)
    refused = [one for one in flood if one.done()]
    assert len(refused) == 1_000 - WAITING_EACH_MAX
    assert all(isinstance(one.exception(), Busy) for one in refused)
    await locks.hold("other", [PARTY], "anna")  # a free record at once
    anna = asyncio.create_task(locks.hold("anna", [PAYMENT], "anna"))
    await asyncio.sleep(0)
    for name in ["first", *(f"m{n}" for n in range(WAITING_EACH_MAX))]:
        locks.release(name)
    await asyncio.wait_for(anna, 2)
    locks.stop()


async def test_one_who_goes_away_while_he_waits_leaves_nothing_behind(tmp_path):
    locks = Locks(tmp_path / "access.jsonl")
    await locks.hold("a", [PAYMENT], "anna")
    gone = asyncio.create_task(locks.hold("b", [PAYMENT, PARTY], "ben"))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    await locks.hold("c", [PARTY], "carla")
    locks.release("a")
    await locks.hold("d", [PAYMENT], "dora")
    locks.stop()


RECORDS = st.sets(st.integers(0, 5))


@given(st.lists(st.tuples(st.sets(st.integers(0, 5), min_size=1), RECORDS, st.booleans()), max_size=30))
def test_however_requests_come_and_end_all_are_served_and_no_record_is_held_twice(wants):
    async def run():
        locks, served, held, seen = Locks(Path("/nowhere")), [], set(), Counter()

        async def one(name, records, shared, *, gives_up):
            whole, looks = ([("erp", "x", str(n)) for n in some] for some in (records, shared))
            hold = asyncio.create_task(locks.hold(name, whole, name, looks))
            await asyncio.sleep(0)
            if gives_up and not hold.done():
                hold.cancel()
                await asyncio.gather(hold, return_exceptions=True)
                served.append(name)
                return
            await hold
            assert held.isdisjoint(records | shared)
            assert not any(seen[n] for n in records)
            held.update(records)
            seen.update(shared - records)
            await asyncio.sleep(0)
            held.difference_update(records)
            seen.subtract(shared - records)
            locks.release(name)
            served.append(name)

        tasks = [one(f"d{n}", *records, gives_up=gives_up) for n, (*records, gives_up) in enumerate(wants)]
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        assert len(served) == len(wants)
        locks.stop()

    asyncio.run(run())
