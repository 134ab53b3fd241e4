"""Duties kept apart by what the ERP records and what passed the guard; what can't be established is refused."""

import asyncio
import json
from datetime import timedelta

import msgspec
import pytest

import guard_world
from guard_world import POLICY, TwinErp, guarded, later, make, rpc
from ostiary.audit.log import Change
from ostiary.erp.operation import Call, Operation, Pattern, Verb
from ostiary.foundation.secret import Secret
from ostiary.guard import accounts, records
from ostiary.identity import principals
from ostiary.plan.model import Apart, Source
from ostiary.policy import words

UIDS = {"approver": "5", "treasurer": "6", "clerk": "7"}


@pytest.fixture
def world(tmp_path):
    made = make(tmp_path / "home")
    made.person("user:anna", "approver", uid="5")
    made.person("user:ben", "treasurer", uid="6")
    return made


@pytest.fixture
def erp(world):
    return TwinErp(world.clock)


def carry(erp):
    return lambda credential, request: erp.carry_out(credential.removeprefix("as:"), request)


def approve(*payments):
    return rpc("model.account.payment.approve", list(payments))


def payment_to(erp, maker, *, by="treasurer", **values):
    """A payment that `by` made, to a supplier that `maker` made."""
    return erp.create(by, "account.payment", party=erp.create(maker, "party.party"), **values)


def age(erp, name, number, **time):
    """The record's times, so long before now."""
    at = erp.clock.at - timedelta(**time)
    for what in ("create_date", "write_date"):
        held = erp.tables[name][number]
        if held[what]:
            parts = ("year", "month", "day", "hour", "minute", "second", "microsecond")
            held[what] = {"__class__": "datetime", **{part: getattr(at, part) for part in parts}}


async def test_who_made_a_supplier_through_the_gate_does_not_approve_a_payment_to_it(world, erp):
    anna, ben = world.token("user:anna"), world.token("user:ben")
    async with guarded(world, erp):
        _, (supplier,) = await world.through(anna, rpc("model.party.party.create", [{"name": "Evil"}]), carry(erp))
        row = {"party": supplier, "amount": 5}
        _, (payment,) = await world.through(anna, rpc("model.account.payment.create", [row]), carry(erp))
        answer, _ = await world.through(anna, approve(payment), carry(erp))
        assert (answer.status, answer.reason) == (403, "apart")
        assert "you made party.party" in answer.detail
        assert answer.rule.startswith("apart")
        assert erp.tables["account.payment"][payment].get("state") is None
        answer, _ = await world.through(ben, approve(payment), carry(erp))
        assert answer.allowed
    assert erp.tables["account.payment"][payment]["state"] == "approve"


async def test_a_supplier_made_in_the_erp_itself_counts_the_same(world, erp):
    payment = payment_to(erp, "approver")
    async with guarded(world, erp):
        assert (await world.ask(world.token("user:anna"), approve(payment))).reason == "apart"
        assert (await world.ask(world.token("user:ben"), approve(payment))).allowed


async def test_a_supplier_changed_last_in_the_erp_itself_counts_the_same(world, erp):
    payment = payment_to(erp, "treasurer")
    erp.write("approver", "party.party", 1, name="Mine")
    age(erp, "party.party", 1, days=1)
    async with guarded(world, erp):
        answer = await world.ask(world.token("user:anna"), approve(payment))
    assert "you changed party.party 1" in answer.detail


async def test_a_change_through_the_gate_is_remembered_though_another_wrote_last(world, erp):
    payment = payment_to(erp, "clerk")
    age(erp, "party.party", 1, days=60)
    async with guarded(world, erp):
        anna = world.token("user:anna")
        await world.through(anna, rpc("model.party.party.write", [1], {"name": "Mine"}), carry(erp))
        erp.write("treasurer", "party.party", 1, name="Theirs")
        answer = await world.ask(anna, approve(payment))
        assert "through this gate" in answer.detail
        later(world, days=29)
        assert (await world.ask(world.token("user:anna"), approve(payment))).reason == "apart"
        later(world, days=2)
        age(erp, "party.party", 1, days=60)
        assert (await world.ask(world.token("user:anna"), approve(payment))).allowed


async def test_the_memory_survives_a_restart(world, erp):
    payment = payment_to(erp, "clerk")
    age(erp, "party.party", 1, days=60)
    async with guarded(world, erp):
        await world.through(world.token("user:anna"), rpc("model.party.party.write", [1], {"name": "Mine"}), carry(erp))
    erp.write("treasurer", "party.party", 1, name="Theirs")
    async with guarded(world, erp):
        assert (await world.ask(world.token("user:anna"), approve(payment))).reason == "apart"


async def test_the_party_of_now_counts_not_that_of_the_submission(world, erp):
    payment = payment_to(erp, "treasurer")
    async with guarded(world, erp):
        anna = world.token("user:anna")
        await world.through(anna, rpc("model.account.payment.submit", [payment]), carry(erp))
        erp.write("treasurer", "account.payment", payment, party=erp.create("approver", "party.party"))
        assert (await world.ask(anna, approve(payment))).reason == "apart"


async def test_of_several_payments_in_one_call_each_must_be_free(world, erp):
    mine, theirs = payment_to(erp, "approver"), payment_to(erp, "treasurer")
    async with guarded(world, erp):
        anna = world.token("user:anna")
        assert (await world.ask(anna, approve(theirs, mine))).reason == "apart"
        assert (await world.ask(anna, approve(theirs))).allowed


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda erp, _: setattr(erp, "up", False), "does not answer"),
        (lambda erp, n: erp.tables["account.payment"][n].pop("party"), "has no party"),
        (lambda erp, n: erp.tables["account.payment"][n].update(party=True), "has no party"),
        (lambda erp, _: erp.hidden.add(("party.party", 1)), "does not show every party.party"),
        (lambda erp, n: erp.hidden.add(("account.payment", n)), "does not show every account.payment"),
        (lambda erp, n: erp.tables["account.payment"].pop(n), "does not show every account.payment"),
        (lambda erp, _: erp.tables["party.party"][1].update(create_uid=None), "does not say who made"),
        (lambda erp, _: erp.tables["party.party"][1].update(create_date=None), "does not say who made"),
        (
            lambda erp, _: erp.tables["party.party"][1].update(create_date={"__class__": "date"}),
            "does not say who made",
        ),
        (lambda erp, _: erp.tables["party.party"][1].update(create_uid=99), "nobody here is known as the ERP user 99"),
        (lambda erp, _: erp.write("stranger", "party.party", 1), "nobody here is known as the ERP user"),
    ],
)
async def test_what_can_not_be_established_is_refused(world, erp, spoil, why):
    payment = payment_to(erp, "treasurer")
    spoil(erp, payment)
    async with guarded(world, erp):
        answer = await world.ask(world.token("user:anna"), approve(payment))
    assert (answer.reason, why in answer.detail) == ("apart", True), answer.detail


async def test_each_erp_says_itself_who_its_users_are_also_after_a_roll_back(tmp_path):
    world = make(tmp_path / "home")
    world.person("user:anna", "approver")
    world.person("user:ben", "treasurer")
    first = TwinErp(world.clock, logins={"5": "approver"})
    other = TwinErp(world.clock, logins={"5": "treasurer"})
    payments = {id(erp): payment_to(erp, "approver", by="approver") for erp in (first, other)}
    anna, asked = world.token("user:anna"), []
    async with guarded(world, first):
        for erp in (first, other, first):
            world.guard.twin = erp
            asked.append(await world.ask(anna, approve(payments[id(erp)]), decision=f"by-{len(asked)}"))
            world.logged(f"by-{len(asked) - 1}")
    assert [answer.allowed for answer in asked] == [False, True, False]


@pytest.mark.parametrize("uid", ["7", ""])
@pytest.mark.parametrize("leaves", ["removed", "mapped anew"])
async def test_what_one_who_left_has_made_is_still_known_as_his(world, erp, uid, leaves):
    world.person("user:carla", "clerk", uid=uid)
    erp.logins = {"7": "clerk"}
    payment = payment_to(erp, "clerk")
    with world.store.begin() as connection:
        change = Change(connection, "uid:0", world.clock.at)
        if leaves == "removed":
            principals.remove(change, principal="user:carla")
        else:
            account = {"system": "erp", "login": "stranger", "password": Secret("x"), "sealer": world.sealer}
            principals.set_erp_account(change, principal="user:carla", **account)
    async with guarded(world, erp):
        assert (await world.ask(world.token("user:anna"), approve(payment), decision="kept")).allowed
        world.logged("kept")
        await world.guard._accounts.forget_old(world.clock.at + accounts.KEPT + timedelta(minutes=1))
        assert "nobody here is known" in (await world.ask(world.token("user:anna"), approve(payment))).detail


async def test_who_took_over_the_erp_user_of_one_who_left_answers_for_it(world, erp):
    world.person("user:carla", "clerk", uid="7")
    erp.logins = {"7": "clerk"}
    payment = payment_to(erp, "clerk")
    with world.store.begin() as connection:
        principals.remove(Change(connection, "uid:0", world.clock.at), principal="user:carla")
    world.person("user:dora", "clerk")
    async with guarded(world, erp):
        assert (await world.ask(world.token("user:dora"), approve(payment))).reason == "apart"


async def test_an_old_hand_of_someone_unknown_does_not_matter_any_more(world, erp):
    payment = payment_to(erp, "stranger")
    age(erp, "party.party", 1, days=40)
    async with guarded(world, erp):
        assert (await world.ask(world.token("user:anna"), approve(payment))).allowed


@pytest.mark.parametrize(("days", "allowed"), [(29, False), (31.1, False), (31.5, True), (33, True)])
async def test_the_edge_of_the_time_is_drawn_a_day_late_for_an_erp_names_no_zone(world, erp, days, allowed):
    """A creation counts with the end of its day, and one day more: never a minute too early, whatever the zone."""
    payment = payment_to(erp, "approver")
    age(erp, "party.party", 1, days=days)
    async with guarded(world, erp):
        assert (await world.ask(world.token("user:anna"), approve(payment))).allowed is allowed


async def test_two_clients_of_one_person_are_one_human(world, erp):
    world.person("client:shop", "clerk", uid="7", person="user:carla")
    world.person("client:desk", "stranger", uid="8", person="user:carla")
    async with guarded(world, erp):
        shop, desk = world.token("client:shop"), world.token("client:desk")
        _, (supplier,) = await world.through(shop, rpc("model.party.party.create", [{"name": "x"}]), carry(erp))
        payment = erp.create("treasurer", "account.payment", party=supplier)
        assert (await world.ask(desk, approve(payment))).reason == "apart"
        assert (await world.ask(world.token("user:ben"), approve(payment))).allowed


@pytest.mark.parametrize("uid", ["6", ""])
async def test_an_erp_user_that_several_share_is_each_of_them(world, erp, uid):
    """Also one whose id is not known yet: his login is that of others whose id is."""
    world.person("user:dora", "treasurer", uid=uid)
    payment = payment_to(erp, "treasurer")
    async with guarded(world, erp):
        for name in ("user:ben", "user:dora"):
            assert (await world.ask(world.token(name), approve(payment))).reason == "apart"
        assert (await world.ask(world.token("user:anna"), approve(payment))).allowed


async def test_a_request_that_names_no_record_is_refused(world, erp):
    async with guarded(world, erp):
        for request in (approve(), rpc("model.account.payment.approve")):
            assert (await world.ask(world.token("user:anna"), request)).reason == "apart"


# -- rules on writes: the request may turn the link itself

WRITES = POLICY.replace('"account.payment: execute approve"]', '"account.payment: write"]').replace(
    '      - "account.payment: read', '      - "account.payment.group: write"\n      - "account.payment: read'
)


@pytest.mark.parametrize(
    "params",
    [
        ("model.account.payment.write", [[1], {"party": 2}]),
        ("model.account.payment.write", [[1], {"amount": 1}, [1], {"party": 2}]),
        ("model.account.payment.group.write", [[1], {"payments": [["write", [1], {"party": 2}]]}]),
    ],
)
async def test_a_link_changed_by_the_request_itself_is_refused(tmp_path, params):
    world = make(tmp_path / "home", policy=WRITES)
    world.person("user:anna", "approver", uid="5")
    erp = TwinErp(world.clock)
    payment_to(erp, "treasurer")
    world.person("user:ben", "treasurer", uid="6")
    async with guarded(world, erp):
        method, values = params
        answer = await world.ask(world.token("user:anna"), rpc(method, *values))
        assert "the request itself changes party" in answer.detail
        assert (
            await world.ask(world.token("user:anna"), rpc("model.account.payment.write", [1], {"amount": 2}))
        ).allowed


async def test_of_many_second_duties_in_one_call_the_erp_is_asked_at_once(tmp_path, monkeypatch):
    """A short call would else have the ERP asked three times for each of a thousand parts of it."""
    world = make(tmp_path / "home", policy=WRITES)
    for name, login in (("user:anna", "approver"), ("user:ben", "treasurer")):
        world.person(name, login, uid=UIDS[login])
    erp, asked = TwinErp(world.clock), []
    payments = [payment_to(erp, "treasurer") for _ in range(20)]
    mine = payment_to(erp, "approver")
    rows = erp.rows

    async def counted(name, ids, fields):
        asked.append((name, len(ids)))
        return await rows(name, ids, fields)

    monkeypatch.setattr(erp, "rows", counted)
    async with guarded(world, erp):
        anna = world.token("user:anna")
        each = [part for payment in payments for part in ([payment], {"amount": payment})]
        done, _ = await world.through(anna, rpc("model.account.payment.write", *each), lambda *_: None)
        assert done.allowed
        assert asked == [("account.payment", 20), ("account.payment", 20), ("party.party", 20)]
        refused = await world.ask(anna, rpc("model.account.payment.write", *each[2:], [mine], {"amount": 1}))
    assert (refused.reason, "you made party.party" in refused.detail) == ("apart", True)


SAME = WRITES.replace(
    '"party.party: write", "account.payment: write"', '"account.payment: write", "account.payment: write"'
)


@pytest.mark.parametrize(
    ("pairs", "both"),
    [([[1], {"amount": 1}, [2], {"amount": 1}], False), ([[1, 2], {"amount": 1}, [2], {"amount": 2}], True)],
)
async def test_an_operation_that_is_both_duties_is_held_against_the_others_of_its_call(tmp_path, pairs, both):
    world = make(tmp_path / "home", policy=SAME.replace("    link: party\n", ""))
    for name, login in (("user:anna", "approver"), ("user:ben", "treasurer")):
        world.person(name, login, uid=UIDS[login])
    erp = TwinErp(world.clock)
    for _ in range(2):
        payment_to(erp, "treasurer")
    async with guarded(world, erp):
        answer = await world.ask(world.token("user:anna"), rpc("model.account.payment.write", *pairs))
    assert answer.allowed is not both
    assert ("this request itself does both" in answer.detail) is both


async def test_two_rules_at_once_both_hold(tmp_path):
    more = """
  - name: make a payment and approve it
    permissions: ["account.payment: write", "account.payment: execute approve"]
    within: 30 days
limits:"""
    world = make(tmp_path / "home", policy=POLICY.replace("\nlimits:", more))
    for name, login in (("user:anna", "approver"), ("user:ben", "treasurer"), ("user:carla", "clerk")):
        world.person(name, login, uid=UIDS[login])
    erp = TwinErp(world.clock)
    payment = payment_to(erp, "approver", by="treasurer")
    async with guarded(world, erp):
        told = [
            (await world.ask(world.token(f"user:{name}"), approve(payment))).rule for name in ("anna", "ben", "carla")
        ]
    assert told[0] != told[1]
    assert not told[2].startswith("apart")


async def test_under_a_control_one_person_does_both_until_it_has_ended(tmp_path):
    control = """
controls:
  - {rules: P2P-01, roles: payments, what: w, owner: o, reason: r, until: 2026-03-03}
limits:"""
    text = POLICY.replace("- name: create a supplier", "- id: P2P-01\n    name: create a supplier")
    world = make(tmp_path / "home", policy=text.replace("\nlimits:", control))
    world.person("user:anna", "approver", uid="5")
    erp = TwinErp(world.clock)
    payment = payment_to(erp, "approver")
    async with guarded(world, erp):
        assert (await world.ask(world.token("user:anna"), approve(payment), decision="first")).allowed
        world.logged("first")
        later(world, days=1)
        refused = await world.ask(world.token("user:anna"), approve(payment))
    assert (refused.reason, refused.rule) == ("apart", "apart/P2P-01")


# -- order on one record


async def test_two_requests_on_one_record_are_ordered_until_the_first_is_answered(world, erp):
    payment = payment_to(erp, "treasurer")
    mine = erp.create("approver", "party.party")
    async with guarded(world, erp):
        anna, ben = world.token("user:anna"), world.token("user:ben")
        change = rpc("model.account.payment.write", [payment], {"party": mine})
        assert (await world.ask(ben, change, decision="first")).allowed
        second = asyncio.create_task(world.ask(anna, approve(payment), decision="second"))
        done, _ = await asyncio.wait([second], timeout=0.05)
        assert not done  # the change has been let through, and nobody knows yet whether the ERP has done it
        carry(erp)("as:treasurer", change)
        world.logged("first")
        answer = await asyncio.wait_for(second, 5)
    assert answer.reason == "apart"


# -- a link of two steps: the record in the middle may be turned, too

TWO_STEPS = """  - name: create an account and pay a party that has it
    permissions: ["party.category: write", "account.payment: execute approve"]
    link: party.category
    within: 30 days
limits:"""
CATEGORY = [("party.category", "name", "char", None), ("party.party", "category", "many2one", "party.category")]


@pytest.fixture
def two_steps(tmp_path, monkeypatch):
    """Ben's payment to a supplier of his category; the second category is Anna's."""
    monkeypatch.setattr(guard_world, "ROWS", guard_world.ROWS + CATEGORY)
    policy = POLICY[: POLICY.index("apart:")] + "apart:\n" + TWO_STEPS + POLICY.partition("limits:")[2]
    made = make(tmp_path / "home", policy=policy)
    made.person("user:anna", "approver", uid="5")
    made.person("user:ben", "treasurer", uid="6")
    twin = TwinErp(made.clock)
    for login in ("treasurer", "approver"):
        twin.create(login, "party.category")
    for _ in range(2):
        twin.create("treasurer", "account.payment", party=1)
    twin.create("treasurer", "party.party", category=1)
    return made, twin


def turn(category):
    return rpc("model.party.party.write", [1], {"category": category})


async def waits(task):
    done, _ = await asyncio.wait([task], timeout=0.05)
    return not done


async def test_a_record_in_the_middle_of_a_link_is_not_turned_before_the_second_duty_is_done(two_steps):
    world, erp = two_steps
    async with guarded(world, erp):
        anna, ben = world.token("user:anna"), world.token("user:ben")
        assert (await world.ask(ben, turn(2), decision="first")).allowed
        second = asyncio.create_task(world.ask(anna, approve(1), decision="second"))
        assert await waits(second)
        carry(erp)("as:treasurer", turn(2))
        world.logged("first")
        answer = await asyncio.wait_for(second, 5)
        assert (answer.reason, answer.detail[:36]) == ("apart", "the ERP records that you made party.")


async def test_nor_while_the_second_duty_is_on_its_way_which_others_may_be_too(two_steps):
    world, erp = two_steps
    async with guarded(world, erp):
        anna, ben = world.token("user:anna"), world.token("user:ben")
        assert (await world.ask(anna, approve(1), decision="first")).allowed
        assert (await asyncio.wait_for(world.ask(anna, approve(2), decision="second"), 2)).allowed
        turning = asyncio.create_task(world.ask(ben, turn(2), decision="third"))
        assert await waits(turning)
        making = asyncio.create_task(world.ask(anna, rpc("model.party.category.write", [1], {"name": "x"})))
        assert await waits(making)  # the first duty, to the end of the link
        world.logged("first")
        assert await waits(turning)
        world.logged("second")
        assert (await asyncio.wait_for(turning, 5)).allowed
        assert (await asyncio.wait_for(making, 5)).allowed


async def test_a_link_that_leads_elsewhere_each_time_it_is_read_is_not_followed_for_ever(two_steps):
    world, erp = two_steps
    rows = erp.rows

    async def turned(name, ids, fields):
        if fields == ["party"]:
            held = erp.tables["account.payment"][1]
            held["party"] = erp.create("treasurer", "party.party", category=1)
        return await rows(name, ids, fields)

    erp.rows = turned
    async with guarded(world, erp):
        answer = await world.ask(world.token("user:anna"), approve(1))
        assert (answer.reason, "try again" in answer.detail) == ("unavailable", True)
        erp.rows = rows
        assert (await asyncio.wait_for(world.ask(world.token("user:ben"), turn(1)), 2)).allowed


async def test_a_record_stays_held_only_by_what_was_let_through(world, erp):
    payment = payment_to(erp, "approver")
    async with guarded(world, erp):
        assert (await world.ask(world.token("user:anna"), approve(payment))).reason == "apart"
        assert (await asyncio.wait_for(world.ask(world.token("user:ben"), approve(payment)), 2)).allowed


async def test_reads_and_other_records_wait_for_nobody(world, erp):
    payment, other = payment_to(erp, "clerk"), payment_to(erp, "clerk")
    world.person("user:carla", "clerk", uid="7")
    async with guarded(world, erp):
        ben = world.token("user:ben")
        assert (await world.ask(ben, approve(payment))).allowed
        for request in (rpc("model.account.payment.read", [payment], ["amount"]), approve(other)):
            assert (await asyncio.wait_for(world.ask(ben, request), 2)).allowed


async def test_what_no_rule_can_ask_for_any_more_is_forgotten_and_nothing_before(world, erp):
    assert timedelta(days=words.WITHIN_MAX_DAYS) + records.CLOCKS_APART_MAX < accounts.KEPT
    first = Pattern(system="erp", object="party.party", verb=Verb.WRITE)
    asked = ("user:anna", first, ("party.party", ["1"]), world.clock.at - timedelta(days=1))
    payment_to(erp, "clerk")
    async with guarded(world, erp):
        await world.through(world.token("user:anna"), rpc("model.party.party.write", [1], {"name": "x"}), carry(erp))
        kept = world.guard._accounts
        await kept.forget_old(world.clock.at + accounts.KEPT - timedelta(minutes=1))
        assert await kept.did(*asked)
        await kept.forget_old(world.clock.at + accounts.KEPT + timedelta(minutes=1))
        assert not await kept.did(*asked)


# -- the pure parts


def apart(**how):
    rule = {
        "id": "apart/1", "name": "n", "link": "party", "within_days": 30,
        "first": Pattern(system="erp", object="party.party", verb=Verb.WRITE),
        "then": Pattern(system="erp", object="account.payment", verb=Verb.EXECUTE, action="approve"),
        "source": Source(file="p", line=1, text=""),
    }  # fmt: skip
    return Apart(**{**rule, **how})


def operation(object_, verb, action="", ids=()):
    return Operation(system="erp", object=object_, verb=verb, action=action, ids=ids)


def test_only_changes_of_objects_that_a_rule_speaks_of_are_held():
    call = Call(
        operations=(
            operation("party.party", Verb.WRITE, "write", ("1",)),
            operation("party.party", Verb.READ, "read", ("2",)),
            operation("party.address", Verb.WRITE, "write", ("3",)),
            operation("account.payment", Verb.DELETE, "delete", ("4",)),
        )
    )
    assert records.records_to_hold([apart()], call) == {("erp", "party.party", "1"), ("erp", "account.payment", "4")}


def test_a_twin_speaks_as_the_real_one_does(erp):
    made = erp.create("approver", "party.party", name="x")
    assert json.loads(json.dumps(erp.tables["party.party"][made]))["create_date"]["__class__"] == "datetime"
    assert msgspec.json.encode(erp.tables["party.party"][made])
