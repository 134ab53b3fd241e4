"""The guard in front of a real Tryton: whose credential is handed over, and who may approve what."""

import asyncio
import base64
import json
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace
from sqlalchemy import select, update

from fixed_clock import FixedClock
from guard_world import POLICY, guarded, make, rpc
from ostiary.erp.operation import Request
from ostiary.foundation.secret import Secret
from ostiary.guard import adapters as hand_over
from ostiary.store.directory import sealed_for
from ostiary.store.tables import ERP_ACCOUNT, GUARD_KEY
from real_tryton import begin, end

pytestmark = pytest.mark.xdist_group("tryton")

WIDE = POLICY.replace(
    '"account.payment.journal: read"',
    '"account.payment.journal: read", "res.user: read"'.replace('", "', '"\n      - "'),
)
NAMES = rpc("model.party.party.search_read", [["id", "=", 1]], 0, 1, None, ["name"], context={"company": 1})
AMOUNT = {"__class__": "Decimal", "decimal": "4999.99"}


@pytest.fixture
def world(tmp_path, tryton, pair):
    made = make(tmp_path / "home", policy=WIDE, upstream=tryton.erp.url, catalogue=pair.catalogue)
    made.clock = FixedClock(datetime.now(UTC))
    for principal, login in (("user:anna", "approver"), ("user:ben", "treasurer"), ("system:erp", "gateway")):
        made.person(principal, login, password=tryton.erp.users[login].reveal())
    return made


def carry(tryton):
    """What the gate does with an allowed call: the ERP gets the credential, and the call as it was."""

    def send(credential, request):
        url = request.path + (f"?{request.query}" if request.query else "")
        headers = {**request.headers, "authorization": credential}
        answer = tryton.http.request(request.method, url, headers=headers, content=request.body)
        assert answer.status_code == 200, answer.text
        told = answer.json()
        if not isinstance(told, dict) or "id" not in told or "result" not in told:
            assert "error" not in told, told
            return told
        return told["result"]

    return send


def company(method, *params):
    return rpc(method, *params, context={"company": 1, "companies": [1]})


def draft(party):
    day = datetime.now(UTC)
    date = {"__class__": "date", "year": day.year, "month": day.month, "day": day.day}
    row = {"journal": 1, "kind": "payable", "party": party, "amount": AMOUNT, "date": date, "company": 1}
    return company("model.account.payment.create", [row])


def approve(payment):
    return company("model.account.payment.approve", [payment])


def state(tryton, payment):
    return tryton.select("select state from account_payment where id = ?", payment)[0][0]


async def submitted(world, tryton, token, supplier):
    _, (payment,) = await world.through(token, draft(supplier), carry(tryton))
    answer, _ = await world.through(token, company("model.account.payment.submit", [payment]), carry(tryton))
    assert answer.allowed
    return payment


# -- who acts


async def test_the_erp_sees_the_mapped_user_and_learns_nothing_of_the_token(world, tryton):
    async with guarded(world):
        token = world.token("user:anna")
        answer, _ = await world.through(token, NAMES, carry(tryton))
        scheme, _, text = answer.headers["authorization"].partition(" ")
        login, uid, _ = base64.b64decode(text).decode().split(":")
        assert (scheme, login, uid) == ("Session", "approver", str(tryton.erp.uids["approver"]))
        _, (made,) = await world.through(token, company("model.party.party.create", [{"name": "x"}]), carry(tryton))
    assert tryton.select("select create_uid from party_party where id = ?", made) == [(tryton.erp.uids["approver"],)]
    with world.store.read() as connection:
        query = select(ERP_ACCOUNT.c.uid).where(ERP_ACCOUNT.c.principal == "user:anna")
        assert connection.execute(query).scalar_one() == uid


async def test_many_at_once_make_one_session(world, tryton):
    before = tryton.select("select count(*) from ir_session")[0][0]
    async with guarded(world):
        token = world.token("user:anna")
        answers = await asyncio.gather(*[world.ask(token, NAMES) for _ in range(20)])
    assert {answer.detail for answer in answers} == {""}
    assert len({answer.headers["authorization"] for answer in answers}) == 1
    assert tryton.select("select count(*) from ir_session")[0][0] == before + 1


async def test_a_session_that_the_erp_forgot_is_renewed(world, tryton, monkeypatch):
    monkeypatch.setattr(hand_over, "PROVE_EVERY_S", 0.05)
    async with guarded(world):
        token = world.token("user:anna")
        first, _ = await world.through(token, NAMES, carry(tryton))
        tryton.execute("delete from ir_session where create_uid = ?", tryton.erp.uids["approver"])
        await asyncio.sleep(0.1)
        second, rows = await world.through(token, NAMES, carry(tryton))
    assert rows[0]["name"] == "ACME Corp"
    assert first.headers["authorization"] != second.headers["authorization"]


async def test_the_guards_own_session_is_renewed_while_it_asks(world, tryton):
    supplier = tryton.call("treasurer", "model.party.party.create", [{"name": "Fair"}])[0]
    async with guarded(world):
        anna = world.token("user:anna")
        payment = await submitted(world, tryton, anna, supplier)
        assert (await world.ask(anna, approve(payment), decision="a")).allowed
        world.logged("a")
        tryton.execute("delete from ir_session where create_uid = ?", tryton.erp.uids["gateway"])
        assert (await world.ask(anna, approve(payment))).allowed


async def test_a_wrong_password_is_a_clear_refusal_and_not_tried_at_every_request(world, tryton):
    with world.store.begin() as connection:
        sealed = world.sealer.seal(Secret("guess"), sealed_for("erp", "user:anna"))
        connection.execute(
            update(ERP_ACCOUNT).where(ERP_ACCOUNT.c.principal == "user:anna").values(sealed_secret=sealed)
        )
    async with guarded(world):
        token = world.token("user:anna")
        answers = [await world.ask(token, NAMES) for _ in range(5)]
        assert {(answer.reason, answer.problem["status"]) for answer in answers} == {("erp-refuses", 502)}
        assert "does not let approver in" in answers[0].detail
        assert "guess" not in answers[0].detail
        assert (await world.ask(world.token("user:ben"), NAMES)).allowed
    tried = tryton.select("select count(*) from res_user_login_attempt where login = 'approver'")[0][0]
    assert tried <= 1


async def test_a_password_set_anew_is_used_at_once(world, tryton):
    async with guarded(world):
        token = world.token("user:anna")
        assert (await world.ask(token, NAMES)).allowed
        with world.store.begin() as connection:
            sealed = world.sealer.seal(Secret("wrong"), sealed_for("erp", "user:anna"))
            mine = update(ERP_ACCOUNT).where(ERP_ACCOUNT.c.principal == "user:anna")
            connection.execute(mine.values(sealed_secret=sealed))
        world.guard._accounts.forget()
        assert not (await world.ask(token, NAMES)).allowed
        with world.store.begin() as connection:
            right = tryton.erp.users["approver"]
            connection.execute(mine.values(sealed_secret=world.sealer.seal(right, sealed_for("erp", "user:anna"))))
        world.guard._accounts.forget()
        assert (await world.ask(token, NAMES)).allowed


async def test_an_account_whose_login_became_another_user_is_refused(world):
    with world.store.begin() as connection:
        connection.execute(update(ERP_ACCOUNT).where(ERP_ACCOUNT.c.principal == "user:anna").values(uid="999"))
    async with guarded(world):
        answer = await world.ask(world.token("user:anna"), NAMES)
    assert "another user of the ERP" in answer.detail


async def test_a_rest_key_is_made_once_kept_sealed_and_used_again(world, tryton):
    parties = Request(method="GET", path="/erp/rest/model/party.party", query="f=name&s=1")
    keys = "select key from res_user_application where user = ? and state = 'validated'"
    uid = tryton.erp.uids["approver"]
    known = len(tryton.select(keys, uid))
    async with guarded(world):
        token = world.token("user:anna")
        answers = await asyncio.gather(*[world.ask(token, parties) for _ in range(5)])
        assert {answer.detail for answer in answers} == {""}
        first = answers[0].headers["authorization"]
        assert {answer.headers["authorization"] for answer in answers} == {first}
        rows = carry(tryton)(first, parties)
        assert len(rows) == 1
        assert "name" in rows[0]
    async with guarded(world):
        assert (await world.ask(world.token("user:anna"), parties)).headers["authorization"] == first
    assert len(tryton.select(keys, uid)) == known + 1
    key = first.removeprefix("bearer ")
    with world.store.read() as connection:
        sealed = connection.execute(select(GUARD_KEY.c.sealed_key)).scalar_one()
    assert key.encode() not in sealed
    assert world.sealer.open(sealed, "erp-key:erp:approver").reveal() == key
    assert key not in world.home.guard_log.read_text()


async def test_a_rest_key_that_was_taken_away_is_made_again(world, tryton, monkeypatch):
    monkeypatch.setattr(hand_over, "PROVE_EVERY_S", 0.05)
    parties = Request(method="GET", path="/erp/rest/model/party.party", query="f=name&s=1")
    async with guarded(world):
        token = world.token("user:ben")
        first = (await world.ask(token, parties)).headers["authorization"]
        tryton.execute(
            "update res_user_application set state = 'cancelled' where key = ?", first.removeprefix("bearer ")
        )
        await asyncio.sleep(0.1)
        second = (await world.ask(token, parties)).headers["authorization"]
    assert first != second
    assert carry(tryton)(second, parties)


async def test_nothing_secret_is_shown(world, tryton, caplog):
    caplog.set_level("DEBUG")
    async with guarded(world):
        answer = await world.ask(world.token("user:anna"), NAMES)
        erp = next(iter(world.guard._erps.values()))
        told = repr(vars(erp)) + "".join(repr(vars(held)) for held in erp._held.values())
    told += caplog.text + world.home.guard_log.read_text()
    session = base64.b64decode(answer.headers["authorization"].removeprefix("Session ")).decode().rpartition(":")[2]
    for secret in (session, answer.headers["authorization"], tryton.erp.users["approver"].reveal()):
        assert secret not in told


# -- the fraud that Tryton alone allows


async def test_one_user_alone_gets_his_own_supplier_paid_at_tryton_and_not_through_the_gate(world, tryton):
    (party,) = tryton.call("approver", "model.party.party.create", [{"name": "Evil Vendor GmbH"}])
    straight = tryton.post(*_body(draft(party)), authorization=tryton.session("approver"))[0]
    for button in ("submit", "approve"):
        tryton.call("approver", f"model.account.payment.{button}", [straight])
    assert state(tryton, straight) == "approved"
    async with guarded(world):
        anna, ben = world.token("user:anna"), world.token("user:ben")
        _, (supplier,) = await world.through(
            anna, company("model.party.party.create", [{"name": "Evil II"}]), carry(tryton)
        )
        payment = await submitted(world, tryton, anna, supplier)
        answer, _ = await world.through(anna, approve(payment), carry(tryton))
        assert (answer.status, answer.reason) == (403, "apart")
        assert f"you made party.party {supplier}" in answer.detail
        assert state(tryton, payment) == "submitted"
        by_url = Request(method="POST", path=f"/erp/rest/model/account.payment/{payment}/approve", query="f=id",
                         headers={"content-type": "application/json"}, body=b"{}")  # fmt: skip
        assert (await world.ask(anna, by_url)).reason == "apart"
        answer, _ = await world.through(ben, approve(payment), carry(tryton))
        assert answer.allowed
    assert state(tryton, payment) == "approved"


def _body(request):
    import json

    body = json.loads(request.body)
    return body["method"], *body["params"]


async def test_what_was_done_around_the_gate_counts_too(world, tryton):
    made = tryton.call("approver", "model.party.party.create", [{"name": "Made around"}])[0]
    fair = tryton.call("treasurer", "model.party.party.create", [{"name": "Fair"}])[0]
    touched = tryton.call("treasurer", "model.party.party.create", [{"name": "Touched"}])[0]
    tryton.call("approver", "model.party.party.write", [touched], {"name": "Touched by anna"})
    async with guarded(world):
        anna, ben = world.token("user:anna"), world.token("user:ben")
        payments = [await submitted(world, tryton, ben, party) for party in (made, touched, fair)]
        reasons = [(await world.ask(anna, approve(payment), decision=f"q{payment}")).reason for payment in payments]
        world.logged(f"q{payments[2]}")
        assert reasons == ["apart", "apart", "allowed"]
        moved = draft(fair)
        _, (payment,) = await world.through(ben, moved, carry(tryton))
        tryton.call("treasurer", "model.account.payment.write", [payment], {"party": made})
        await world.through(ben, company("model.account.payment.submit", [payment]), carry(tryton))
        assert (await world.ask(anna, approve(payment))).reason == "apart"


async def test_a_user_who_never_came_through_the_gate_is_known_by_his_login(world, tryton):
    supplier = tryton.call("treasurer", "model.party.party.create", [{"name": "By ben"}])[0]
    async with guarded(world):
        anna, ben = world.token("user:anna"), world.token("user:ben")
        payment = await submitted(world, tryton, anna, supplier)
        answer, _ = await world.through(anna, approve(payment), carry(tryton))
        assert answer.allowed
        payment = await submitted(world, tryton, anna, supplier)
        assert (await world.ask(ben, approve(payment))).reason == "apart"


async def test_a_supplier_made_by_a_user_whom_nobody_here_stands_for_is_refused(world, tryton):
    made = tryton.call("clerk", "model.party.party.create", [{"name": "By a stranger"}])[0]
    async with guarded(world):
        anna = world.token("user:anna")
        payment = await submitted(world, tryton, anna, made)
        answer = await world.ask(anna, approve(payment))
    assert answer.reason == "apart"
    assert f"nobody here is known as the ERP user {tryton.erp.uids['clerk']}" in answer.detail


async def test_a_record_that_the_guards_own_user_may_not_see_is_refused(world, tryton):
    """A rule of the ERP hides one supplier from the gate's own user."""
    hidden = tryton.call("treasurer", "model.party.party.create", [{"name": "Hidden"}])[0]
    model, group = "party.party", tryton.call("admin", "model.res.group.search", [["name", "=", "Gateway"]])[0]
    values = {"name": "hide", "model": model, "global_p": False, "default_p": False, "groups": [["add", [group]]],
              "rules": [["create", [{"domain": f'[["id", "!=", {hidden}]]'}]]]}  # fmt: skip
    (rule,) = tryton.call("admin", "model.ir.rule.group.create", [values])
    try:
        async with guarded(world):
            anna = world.token("user:anna")
            payment = await submitted(world, tryton, anna, hidden)
            answer = await world.ask(anna, approve(payment))
        assert answer.reason == "apart"
        assert "the ERP shows no such party.party" in answer.detail
    finally:
        tryton.call("admin", "model.ir.rule.group.delete", [rule])


async def test_while_the_erp_is_down_nothing_is_approved(tmp_path, pair, tryton):
    other = begin(tmp_path / "erp")
    try:
        world = make(tmp_path / "home", upstream=other.erp.url, catalogue=pair.catalogue)
        world.clock = FixedClock(datetime.now(UTC))
        for principal, login in (("user:anna", "approver"), ("system:erp", "gateway")):
            world.person(principal, login, password=other.erp.users[login].reveal())
        async with guarded(world):
            anna = world.token("user:anna")
            await world.through(anna, NAMES, carry(other))
            payment = await submitted(world, other, anna, 1)
            end(other)
            answer = await world.ask(anna, approve(payment))
            assert answer.reason == "apart"
            assert "does not answer" in answer.detail
    finally:
        end(other)


async def test_two_approvals_at_once_are_one_after_the_other(world, tryton):
    supplier = tryton.call("treasurer", "model.party.party.create", [{"name": "Once"}])[0]
    async with guarded(world):
        anna = world.token("user:anna")
        payment = await submitted(world, tryton, anna, supplier)
        assert (await world.ask(anna, approve(payment), decision="one")).allowed
        second = asyncio.create_task(world.ask(anna, approve(payment), decision="two"))
        done, _ = await asyncio.wait([second], timeout=0.1)
        assert not done
        world.logged("one")
        assert (await asyncio.wait_for(second, 5)).allowed


async def test_the_catalogue_is_learned_over_the_guards_own_account(world, pair):
    async with guarded(world):
        (system,) = world.guard._knowledge.plan(world.revision).plan.systems
        learned = await world.guard.erp_of(system).learn("erp")
    assert replace(learned, groups=()) == pair.catalogue
    assert {"everybody in the ERP", "Sales", "Payment Approval"} <= {group.name for group in learned.groups}


# -- an account is tried before it is kept


async def asked(world, about, **facts):
    """(status, what the guard says): as control asks it."""
    parts, sent = [{"type": "http.request", "body": json.dumps({"system": "erp", **facts}).encode()}], []

    async def receive():
        return parts.pop()

    async def send(message):
        sent.append(message)

    await world.guard.inside({"type": "http", "method": "POST", "path": f"/internal/{about}"}, receive, send)
    told = json.loads(sent[1]["body"])
    return sent[0]["status"], told.get("error") or told["result"]


async def test_an_account_that_the_erp_lets_in_is_told_with_its_id(world, tryton):
    async with guarded(world):
        right = tryton.erp.users["treasurer"].reveal()
        assert await asked(world, "account", login="treasurer", password=right) == (
            200, {"uid": str(tryton.erp.uids["treasurer"])},
        )  # fmt: skip


async def test_an_account_that_the_erp_does_not_let_in_is_told_with_what_to_do(world):
    async with guarded(world):
        for about in ("account", "learn"):
            status, error = await asked(world, about, login="treasurer", password="planted-guess")
            assert (status, error["code"], error["fault"]) == (400, "erp-refuses", "OperatorFault")
            assert "does not let treasurer in" in error["message"]
            assert "ostiary system account erp" in error["hint"]
            assert "planted-guess" not in str(error)


async def test_what_is_offered_is_learned_by_the_account_that_is_tried(world, tryton, pair):
    world.home.catalogue("erp").unlink()
    right = tryton.erp.users["gateway"].reveal()
    async with guarded(world):
        status, told = await asked(world, "learn", login="gateway", password=right)
    assert (status, told["objects"]) == (200, len(pair.catalogue.models))
    assert told["uid"] == str(tryton.erp.uids["gateway"])
    assert world.home.catalogue("erp").exists()


async def test_an_erp_that_is_down_is_told_apart_from_one_that_refuses(tmp_path):
    world = make(tmp_path / "home", upstream="http://127.0.0.1:9")
    async with guarded(world):
        status, error = await asked(world, "account", login="treasurer", password="x")
    assert (status, error["code"], error["fault"]) == (400, "erp-silent", "SystemFault")
    assert "http://127.0.0.1:9" in error["message"]


async def test_another_database_is_told_apart_from_a_wrong_password(tmp_path, tryton):
    policy = WIDE.replace("database: erp", "database: another")
    world = make(tmp_path / "home", policy=policy, upstream=tryton.erp.url)
    async with guarded(world):
        _, error = await asked(world, "account", login="gateway", password=tryton.erp.users["gateway"].reveal())
    assert error["code"] == "erp-silent"
    assert "`database`" in error["hint"]


async def test_the_guard_says_that_its_own_user_is_not_let_in_until_it_is(world, tryton):
    mine = update(ERP_ACCOUNT).where(ERP_ACCOUNT.c.principal == "system:erp")
    with world.store.begin() as connection:
        connection.execute(mine.values(sealed_secret=world.sealer.seal(Secret("old"), sealed_for("erp", "system:erp"))))
    async with guarded(world):
        assert (await asked(world, "learn"))[1]["code"] == "erp-refuses"
        assert "does not let gateway in" in (await standing(world))["troubles"]["erp"]
        with world.store.begin() as connection:
            right = world.sealer.seal(tryton.erp.users["gateway"], sealed_for("erp", "system:erp"))
            connection.execute(mine.values(sealed_secret=right))
        world.guard._accounts.forget()
        assert (await asked(world, "learn"))[0] == 200
        assert (await standing(world))["troubles"] == {}


async def standing(world):
    return world.guard.state()
