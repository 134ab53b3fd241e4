"""The guard judges a request in order, by what it verified itself; whatever goes wrong on the way to a yes is a no."""

import asyncio
import base64
import json
import shutil
import tempfile
from pathlib import Path
from threading import current_thread, main_thread

import pytest
from sqlalchemy import select, update

from guard_world import NOW, POLICY, TwinErp, guarded, later, make, rpc
from ostiary.control.process import Served, listen, server
from ostiary.erp.operation import Request
from ostiary.foundation.jose import ACCESS_TOKEN, SigningKey
from ostiary.guard import check, knowledge
from ostiary.plan import model
from ostiary.store.directory import revoke
from ostiary.store.plans import put_beside as beside
from ostiary.store.plans import read_plan
from ostiary.store.tables import ERP_ACCOUNT, SIGNING_KEY
from running import OF_A_FILE

READ = rpc("model.party.party.search_read", [], 0, 3, None, ["name"])


@pytest.fixture
def world(tmp_path):
    made = make(tmp_path / "home")
    made.person("user:anna", "approver", uid="5")
    made.person("client:shop", "clerk", uid="7")
    return made


@pytest.fixture
def erp(world):
    return TwinErp(world.clock)


async def test_a_granted_call_passes_as_the_mapped_erp_user(world, erp):
    async with guarded(world, erp):
        answer = await world.ask(world.token("user:anna"), READ)
    assert answer.allowed
    assert answer.headers["authorization"] == "as:approver"
    assert answer.operation == "erp/party.party:read.search_read"
    assert "cookie" in answer.headers["x-envoy-auth-headers-to-remove"]


# -- the token, whatever the headers say


async def test_the_guard_verifies_the_token_itself(world, erp):
    good = world.token("user:anna")
    head, body, signature = good.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    other = base64.urlsafe_b64encode(json.dumps({**claims, "sub": "user:root"}).encode()).rstrip(b"=").decode()
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"at+jwt","kid":"x"}').rstrip(b"=").decode()
    forged = [
        f"{head}.{other}.{signature}",
        f"{none}.{body}.",
        f"{head}.{body}.AAAA",
        "",
        "x",
        good + "A",
        f"{good} {good}",
    ]
    trusted = {"x_gw_sub": "user:anna", "x_gw_roles": "payments", "x_jwt_payload": body}
    async with guarded(world, erp):
        for token in forged:
            answer = await world.ask(token, READ, **trusted)
            assert (answer.status, answer.reason) in {(401, "token-invalid"), (401, "token-missing")}, token
        assert (await world.ask(good, READ)).allowed


async def test_a_token_signed_with_another_key_is_refused(world, erp):
    stranger = SigningKey.generate()
    theirs = world.key
    world.key = stranger
    forged = world.token("user:anna")
    world.key = theirs
    async with guarded(world, erp):
        assert (await world.ask(forged, READ)).reason == "token-invalid"


@pytest.mark.parametrize(
    "claims",
    [
        {"audience": "https://localhost/other"},
        {"issuer": "https://evil.example/identity"},
        {"expires_at": int(NOW.timestamp()) - 5},
        {"issued_at": int(NOW.timestamp()) + 60},
    ],
)
async def test_a_token_that_is_not_for_here_and_now_is_refused(world, erp, claims):
    async with guarded(world, erp):
        assert (await world.ask(world.token("user:anna", **claims), READ)).reason == "token-invalid"


async def test_a_token_lapses_though_it_was_seen_before(world, erp):
    async with guarded(world, erp):
        token = world.token("user:anna")
        assert (await world.ask(token, READ)).allowed
        later(world, seconds=3602)
        assert (await world.ask(token, READ)).reason == "token-invalid"


@pytest.mark.parametrize("authorization", ["", "Basic YTpi", "Bearer", "bearer", "Session abc"])
async def test_without_a_bearer_token_nobody_passes(world, erp, authorization):
    async with guarded(world, erp):
        answer = await world.ask("", READ, authorization=authorization)
    assert (answer.status, answer.reason) == (401, "token-missing")
    assert answer.headers["www-authenticate"] == 'Bearer realm="ostiary"'


@pytest.mark.parametrize("kind", ["jti", "grant", "gen", "cgen"])
async def test_a_revoked_token_is_refused_at_once(world, erp, kind):
    token = world.token("user:anna", jti="one", grant="two", generation="user:anna#3", client_generation="client:app#1")
    value = {"jti": "one", "grant": "two", "gen": "user:anna#3", "cgen": "client:app#1"}[kind]
    async with guarded(world, erp):
        assert (await world.ask(token, READ)).allowed
        await push(world, "/internal/revoked", {"keys": [f"{kind}:{value}"]})
        assert (await world.ask(token, READ)).reason == "token-revoked"


async def test_a_revocation_in_the_store_is_known_from_the_start(world, erp):
    token = world.token("user:anna", jti="gone")
    with world.store.begin() as connection:
        revoke(connection, ["jti:gone"], expires_at_s=int(NOW.timestamp()) + 3600, reason="test", at_us=0)
    async with guarded(world, erp):
        assert (await world.ask(token, READ)).reason == "token-revoked"


async def push(world, path, body):
    """What the control side says on its own socket."""
    sent = []
    parts = [{"type": "http.request", "body": json.dumps(body).encode()}]

    async def receive():
        return parts.pop()

    async def send(message):
        sent.append(message)

    await world.guard.inside({"type": "http", "method": "POST", "path": path}, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


# -- what the guard knows


async def test_what_it_remembers_is_forgotten_when_the_directory_changes_even_while_it_is_read(world, erp):
    async with guarded(world, erp):
        accounts, token = world.guard._accounts, world.token("user:anna")
        assert (await world.ask(token, READ)).headers["authorization"] == "as:approver"
        rename(world, "treasurer")
        assert (await world.ask(token, READ)).headers["authorization"] == "as:approver"
        assert (await push(world, "/internal/directory", {}))[0] == 200
        assert (await world.ask(token, READ)).headers["authorization"] == "as:treasurer"

        def ask(connection):
            anna = select(ERP_ACCOUNT.c.login).where(ERP_ACCOUNT.c.principal == "user:anna")
            found = connection.execute(anna).scalars().first()
            rename(world, "clerk")
            accounts.forget()
            return found

        assert await accounts._remember(ask) == "treasurer"
        assert await accounts._remember(ask) == "clerk"


@OF_A_FILE
async def test_while_many_wait_to_write_the_guard_goes_on_reading(world, erp):
    async with guarded(world, erp):
        accounts = world.guard._accounts
        with world.store.begin():
            writes = [asyncio.create_task(accounts.forget_old(NOW)) for _ in range(100)]
            await asyncio.sleep(0)
            await asyncio.wait_for(world.guard._knowledge.refresh(), 5)
            assert not any(one.done() for one in writes)
        await asyncio.gather(*writes)


def rename(world, login):
    with world.store.begin() as connection:
        connection.execute(update(ERP_ACCOUNT).where(ERP_ACCOUNT.c.principal == "user:anna").values(login=login))


async def test_a_revision_that_the_guard_does_not_have_is_answered_503(world, erp):
    async with guarded(world, erp):
        answer = await world.ask(world.token("user:anna"), READ, x_gw_revision="another")
    assert answer.status == 424  # which the gate turns into 503: `envoy.listener`
    assert answer.problem["status"] == 503
    assert answer.headers["retry-after"] == "1"


async def test_knowledge_that_is_too_old_closes_the_guard(world, erp, monkeypatch):
    token = world.token("user:anna")
    async with guarded(world, erp):
        monkeypatch.setattr(knowledge, "LEASE_S", 0.0)
        answer = await world.ask(token, READ)
    assert (answer.reason, answer.problem["status"]) == ("closed", 503)


async def test_while_control_is_silent_it_says_what_the_store_knows_was_revoked_or_nothing(world, erp, monkeypatch):
    token = world.token("user:anna")

    async def standing(**named):
        return await ask_standing(world, token if named else "", **named)

    async with guarded(world, erp):
        assert await standing(jti="a", gen="user:anna#1") == 200
        with world.store.begin() as connection:  # as identity, or another node, records it
            revoke(connection, ["gen:user:anna#1"], expires_at_s=2**40, reason="", at_us=0)
        await world.guard._knowledge.refresh()
        assert (await standing(jti="a", gen="user:anna#1"), await standing(jti="a", gen="user:ben#1")) == (410, 200)
        assert await standing() == 200  # of who shows no token nothing was revoked
        assert await ask_standing(world, token, "another.test", jti="a") == 503, "a system that it does not know"
        monkeypatch.setattr(knowledge, "LEASE_S", 0.0)
        assert await standing(jti="a") == 503


async def ask_standing(world, token, host="localhost", scheme="Bearer", **named):
    """As the gate asks whose lease has lapsed, with what its token filter has taken from a token."""
    sent = []

    async def send(message):
        sent.append(message)

    told = {
        "host": host,
        "authorization": f"{scheme} {token}",
        **{f"x-gw-{name}": text for name, text in named.items()},
    }
    headers = [(name.encode(), value.encode()) for name, value in told.items()]
    scope = {"type": "http", "path": "/standing/x", "raw_path": b"/standing/x", "headers": headers}
    await world.guard.check(scope, None, send)
    return sent[0]["status"]


async def test_while_control_is_silent_no_token_counts_whose_key_was_taken_back(world, erp):
    """Whoever has the key makes tokens that name nothing by which they could be revoked; the gate knows the key still."""
    good, at = world.token("user:anna"), int(NOW.timestamp())
    rights = {"iss": world.settings.issuer, "aud": world.audience, "sub": "user:root", "rs": "r", "exp": at + 999}
    forged = world.key.sign(rights, type_=ACCESS_TOKEN)
    later = SigningKey.generate()
    async with guarded(world, erp):
        assert [await ask_standing(world, good, jti="a", rs="r"), await ask_standing(world, forged, rs="r")] == [
            200,
            410,
        ]
        assert await ask_standing(world, good, scheme="DPoP", rs="r") == 200
        assert await ask_standing(world, f"{good},Bearer {good}", rs="r") == 410
        with world.store.begin() as connection:  # as another node turns a key that is in wrong hands
            row = {"kid": later.kid, "public_jwk": json.dumps(later.public())}
            connection.execute(update(SIGNING_KEY).where(SIGNING_KEY.c.purpose == "access").values(row))
        await world.guard._knowledge.refresh()
        assert await ask_standing(world, good, jti="a", rs="r") == 410
        world.key = later
        assert await ask_standing(world, world.token("user:anna"), jti="b", rs="r") == 200
        assert await ask_standing(world, "Zm9vOmJhcg==", scheme="Basic") == 200, (
            "nothing that the gate took for a token"
        )


async def test_a_policy_taken_over_counts_from_the_next_request_and_the_one_before_stays(world, erp, tmp_path):
    token = world.token("user:anna")
    wider = make(tmp_path / "wider", policy=POLICY.replace('"account.payment.journal: read"', '"sale.*: read"'))
    plan = (wider.home.plans / f"{wider.revision}.json").read_bytes()
    (world.home.plans / f"{wider.revision}.json").write_bytes(plan)
    async with guarded(world, erp):
        assert (await push(world, "/internal/plan", {"revision": wider.revision}))[0] == 200
        assert (await world.ask(token, READ, x_gw_revision=wider.revision)).allowed
        assert (await world.ask(token, READ)).allowed
        changed = plan.replace(b"sale.", b"hale.")
        (world.home.plans / "aaaa.json").write_bytes(changed)
        assert (await push(world, "/internal/plan", {"revision": "aaaa"}))[0] == 400


async def test_the_policy_before_judges_what_is_on_its_way_and_no_more_when_the_gate_has_changed_over(
    world, erp, tmp_path, monkeypatch
):
    """Of a request whose head came before a roll-out the body may come a minute later."""
    wider = make(tmp_path / "wider", policy=POLICY.replace('"account.payment.journal: read"', '"sale.*: read"'))
    plan = (wider.home.plans / f"{wider.revision}.json").read_bytes()
    (world.home.plans / f"{wider.revision}.json").write_bytes(plan)
    token, passed, past = world.token("user:anna"), knowledge.monotonic, [0.0]
    monkeypatch.setattr(knowledge, "monotonic", lambda: passed() + past[0])

    async def reason(by=world.revision):
        await push(world, "/internal/directory", {})  # so that what it knows is fresh
        return (await world.ask(token, READ, x_gw_revision=by)).reason

    async with guarded(world, erp):
        await push(world, "/internal/plan", {"revision": wider.revision})
        past[0] += 3_600
        assert await reason() == "allowed"  # the gate takes its time
        assert (await push(world, "/internal/changed-over", {}))[0] == 200
        assert await reason() == "allowed"
        past[0] += knowledge.ON_THEIR_WAY_S
        await push(world, "/internal/changed-over", {})
        assert (await reason(), await reason(wider.revision)) == ("unavailable", "allowed")
        await push(world, "/internal/plan", {"revision": world.revision})
        assert (await reason(), await reason(wider.revision)) == ("allowed", "allowed")


async def test_long_lists_of_networks_are_made_ready_before_a_plan_counts_and_not_on_the_loop(
    tmp_path, erp, monkeypatch
):
    """The first request after a roll-out held all others up for as long as that took."""
    made, ranged = [], model._range
    monkeypatch.setattr(model, "_range", lambda text: made.append(current_thread()) or ranged(text))
    long = ", ".join(f"10.{n // 256}.{n % 256}.0/24" for n in range(600))
    policy = POLICY.replace("contexts:", f"contexts:\n  far: {{networks: [{long}, 192.0.2.0/24]}}").replace(
        "    of: finance\n    may:", "    of: finance\n    when: far\n    may:"
    )
    world = make(tmp_path / "far", policy=policy)
    world.person("user:anna", "approver", uid="5")
    beside(world.home, read_plan(world.home, world.revision))
    async with guarded(world, erp):
        assert made
        assert main_thread() not in made
        before = len(made)
        answer = await world.ask(world.token("user:anna"), READ)
    assert answer.reason == answer.draft.partition(":")[0]
    assert len(made) == before


async def test_a_draft_is_not_asked_of_a_call_of_hundreds_of_operations_and_that_is_told(world, erp, monkeypatch):
    monkeypatch.setattr(check, "DRAFT_OPERATIONS_MAX", 3)
    beside(world.home, read_plan(world.home, world.revision))
    lines = [["create", [{"city": "x"}]]]
    async with guarded(world, erp):
        few = await world.ask(world.token("user:anna"), rpc("model.party.party.write", [1], {"addresses": lines}))
        many = await world.ask(world.token("user:anna"), rpc("model.party.party.write", [2], {"addresses": lines * 3}))
    assert (few.reason, many.reason) == ("allowed", "allowed")
    assert (few.draft.partition(":")[0], many.draft) == ("allowed", "unclear")


async def test_the_trouble_of_an_erp_ends_with_the_policy_that_named_it(world, tmp_path):
    moved = make(tmp_path / "moved", upstream="http://127.0.0.1:10")
    (world.home.plans / f"{moved.revision}.json").write_bytes(
        (moved.home.plans / f"{moved.revision}.json").read_bytes()
    )
    async with guarded(world):
        (system,) = world.guard._knowledge.current.plan.systems
        world.guard.erp_of(system).trouble = "the ERP does not let gateway in"
        for revision, told in ((moved.revision, {}), (world.revision, {"erp": "the ERP does not let gateway in"})):
            await push(world, "/internal/plan", {"revision": revision})
            assert world.guard.state()["troubles"] == told


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "localhost:8443"])
async def test_the_system_is_found_by_its_host(world, erp, host):
    async with guarded(world, erp):
        assert (await world.ask(world.token("user:anna"), READ, host=host)).allowed


@pytest.mark.parametrize(
    "host", ["", "other", "localhost.", "localhost:x", "localhost@evil", "xlocalhost", "localhost,localhost"]
)
async def test_at_another_host_there_is_no_system(world, erp, host):
    async with guarded(world, erp):
        assert (await world.ask(world.token("user:anna"), READ, host=host)).reason == "unknown-operation"


@pytest.mark.parametrize("missing", ["x-gw-decision", "x-gw-revision", "x-gw-source"])
async def test_what_the_gate_must_say_is_not_guessed(world, erp, missing):
    async with guarded(world, erp):
        assert (await world.ask(world.token("user:anna"), READ, drop=[missing])).reason == "unavailable"


@pytest.mark.parametrize("name", [b"host", b"authorization", b"content-type", b"x-gw-source", b"x-tryton-context"])
async def test_a_header_that_stands_twice_is_refused(world, erp, name):
    token = world.token("user:anna")
    listed = {b"host": b"localhost", b"authorization": f"Bearer {token}".encode(), b"content-type": b"application/json"}
    listed |= {b"x-gw-decision": b"d", b"x-gw-revision": world.revision.encode(), b"x-gw-source": b"127.0.0.1"}
    async with guarded(world, erp):
        assert (await world.raw(READ, [*listed.items()])).allowed
        again = (name, listed.get(name, b"e30"))
        twice = [*listed.items(), again] if name in listed else [*listed.items(), again, again]
        assert (await world.raw(READ, twice)).reason == "invalid"


# -- what may be done


async def test_every_operation_must_be_allowed_and_the_one_that_is_not_is_named(world, erp):
    nested = rpc("model.account.payment.group.create", [{"payments": [["create", [{"amount": 1}]]]}])
    deleting = rpc("model.party.party.write", [1], {"addresses": [["delete", [4]]]})
    async with guarded(world, erp):
        answer = await world.ask(world.token("user:anna"), nested)
        assert (answer.status, answer.reason) == (403, "role")
        answer = await world.ask(world.token("user:anna"), deleting)
    assert (answer.status, answer.reason) == (403, "role")
    assert answer.operation == "erp/party.address:delete.delete"
    assert answer.problem["pointer"] == "/params/1/addresses/0"


@pytest.mark.standard("D5")
@pytest.mark.parametrize(
    "call",
    [
        rpc("model.account.payment.group.read", [1], ["payments"]),
        rpc("model.account.payment.group.read", [1], ["paiments"]),
        rpc("model.account.payment.group.search", [["paiments", "=", "x"]]),
        rpc("model.account.payment.group.write", [1], {"paiments": 1}),
        rpc("model.party.party.read", [1], ["create_uid.paiments"]),
    ],
)  # fmt: skip
async def test_who_may_not_read_an_object_does_not_learn_which_fields_it_has(world, erp, call):
    async with guarded(world, erp):
        answer = await world.ask(world.token("user:anna"), call)
    assert (answer.status, answer.reason) == (403, "role")
    assert "payments" not in answer.detail
    assert "paiments" not in answer.detail


async def test_who_may_read_an_object_is_told_which_field_it_has_not(world, erp):
    async with guarded(world, erp):
        answer = await world.ask(world.token("user:anna"), rpc("model.party.party.read", [1], ["nane"]))
    assert (answer.reason, answer.problem["pointer"]) == ("unknown-operation", "/params/1")


async def test_a_scope_that_does_not_cover_an_operation_is_named(world, erp):
    narrow = world.token("user:anna", scopes=frozenset({"erp/party.party:write"}))
    request = rpc("model.party.party.create", [{"name": "x", "addresses": [["create", [{"city": "y"}]]]}])
    async with guarded(world, erp):
        answer = await world.ask(narrow, request)
        assert (answer.status, answer.reason) == (403, "scope")
        assert "party.address:write.create" in answer.detail


async def test_outside_the_hours_a_call_is_refused_with_the_hours_name(world, erp):
    async with guarded(world, erp):
        token = world.token("user:anna", ["day"])
        assert (await world.ask(token, READ)).allowed
        later(world, hours=7, minutes=59)
        token = world.token("user:anna", ["day"])
        assert (await world.ask(token, READ)).allowed
        later(world, minutes=1)
        answer = await world.ask(world.token("user:anna", ["day"]), READ)
    assert answer.reason == "context"
    assert "by-day" in answer.detail


async def test_an_unknown_role_set_gives_nothing(world, erp):
    async with guarded(world, erp):
        assert (await world.ask(world.token("user:anna", role_set="nosuch"), READ)).reason == "role"


async def test_a_role_set_made_a_moment_ago_counts(world, erp):
    async with guarded(world, erp):
        token = world.token("user:anna", ["day", "payments"])
        assert (await world.ask(token, READ)).allowed


async def test_a_burst_with_a_role_set_made_a_moment_ago_passes_whole(world, erp):
    async with guarded(world, erp):
        token = world.token("user:anna", ["day", "payments"])
        answers = await asyncio.gather(*[world.ask(token, READ) for _ in range(20)])
    assert {answer.reason for answer in answers} == {"allowed"}


@pytest.mark.standard("D3")
@pytest.mark.parametrize("text", ["a\u202eb", "a\u0000b", "\ufeff"])
async def test_dangerous_characters_are_refused_by_pointer(world, erp, text):
    async with guarded(world, erp):
        answer = await world.ask(world.token("user:anna"), rpc("model.party.party.create", [{"name": text}]))
    assert (answer.status, answer.reason, answer.problem["pointer"]) == (400, "invalid", "/params/0/0/name")


async def test_without_a_catalogue_nothing_is_understood(world, erp):
    world.home.catalogue("erp").unlink()
    async with guarded(world, erp):
        answer = await world.ask(world.token("user:anna"), READ)
    assert answer.reason == "unknown-operation"
    assert "not been learned" in answer.detail


async def test_a_broken_catalogue_closes_and_a_new_one_is_read(world, erp):
    good = world.home.catalogue("erp").read_bytes()
    async with guarded(world, erp):
        world.home.catalogue("erp").write_bytes(b"{")
        assert (await world.ask(world.token("user:anna"), READ)).reason == "unavailable"
        world.home.catalogue("erp").write_bytes(good + b" ")
        assert (await world.ask(world.token("user:anna"), READ)).allowed


# -- hand-over


async def test_a_caller_without_an_erp_user_is_told_so(world, erp):
    world.person("user:new")
    async with guarded(world, erp):
        answer = await world.ask(world.token("user:new"), READ)
    assert answer.reason == "unavailable"
    assert "no ERP user is mapped to user:new" in answer.detail
    assert "authorization" not in answer.headers


async def test_an_erp_that_lets_the_user_not_in_is_named(world, erp):
    erp.refuses = frozenset({"approver"})
    async with guarded(world, erp):
        answer = await world.ask(world.token("user:anna"), READ)
    assert answer.reason == "unavailable"
    assert "approver" in answer.detail


async def test_a_refusal_never_carries_a_credential(world, erp):
    async with guarded(world, erp):
        for request in (rpc("model.account.payment.delete", [1]), rpc("nosuch"), Request(method="GET", path="/erp/")):
            assert "authorization" not in (await world.ask(world.token("user:anna"), request)).headers


# -- evidence


async def test_both_answers_are_in_the_journal_with_their_reason(world, erp):
    async with guarded(world, erp):
        await world.ask(world.token("user:anna"), READ, decision="yes")
        await world.ask(world.token("user:anna"), rpc("model.party.party.delete", [1, 2]), decision="no")
    yes, no = world.journal()
    assert (yes["decision"], yes["reason"], yes["erp_user"], yes["person"]) == (
        "yes",
        "allowed",
        "approver",
        "user:anna",
    )
    assert (no["decision"], no["reason"], no["records"]) == ("no", "role", ["party.party/1", "party.party/2"])


async def test_nothing_passes_while_nothing_can_be_recorded(world, erp, monkeypatch):
    token = world.token("user:anna")
    async with guarded(world, erp):
        world.guard._check._journal._free_min = 1 << 62
        answer = await world.ask(token, READ)
        assert (answer.reason, answer.problem["status"]) == ("closed", 503)
        world.guard._check._journal._free_min = 0
        assert (await world.ask(token, READ)).allowed


async def test_an_answer_that_takes_too_long_is_a_refusal_that_holds_nothing(world, erp, monkeypatch):
    monkeypatch.setattr(check, "ANSWER_MAX_S", 0.05)
    supplier = erp.create("stranger", "party.party")
    payment = erp.create("stranger", "account.payment", party=supplier)
    rows = erp.rows

    async def never(*_):
        await asyncio.Event().wait()

    erp.rows = never
    async with guarded(world, erp):
        answer = await world.ask(world.token("user:anna"), rpc("model.account.payment.approve", [payment]))
        assert (answer.reason, answer.problem["status"]) == ("unavailable", 503)
        assert "in time" in answer.detail
        erp.rows = rows
        assert world.guard._check._locks._held == {}


def never_says_who(rows, reached):
    """What a link leads to is told, and then held."""

    async def asked(name, ids, fields):
        if "create_uid" in fields:
            reached.set()
            await asyncio.Event().wait()
        return await rows(name, ids, fields)

    return asked


async def test_when_the_gate_no_longer_waits_nothing_is_held_or_recorded_as_allowed(world, erp):
    payment = erp.create("stranger", "account.payment", party=erp.create("stranger", "party.party"))
    reached = asyncio.Event()

    erp.rows = never_says_who(erp.rows, reached)
    gone = asyncio.Event()
    request = rpc("model.account.payment.approve", [payment])
    listed = {"host": "localhost", "authorization": f"Bearer {world.token('user:anna')}", **request.headers}
    listed |= {"x-gw-decision": "d", "x-gw-revision": world.revision, "x-gw-source": "127.0.0.1"}
    headers = [(name.encode(), value.encode()) for name, value in listed.items()]
    async with guarded(world, erp):
        asking = asyncio.create_task(world.raw(request, headers, gone))
        await asyncio.wait_for(reached.wait(), 5)
        gone.set()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(asking, 5)
        await asyncio.sleep(0)
        assert world.guard._check._locks._held == {}
    assert not world.home.guard_log.exists()


async def test_no_secret_is_in_a_log_or_a_repr(world, erp, caplog):
    caplog.set_level("DEBUG")
    world.person("user:ben", "treasurer", uid="6", password="Planted-Password-77")
    async with guarded(world, erp):
        token = world.token("user:ben")
        await world.ask(token, READ)
        await world.ask(token, rpc("model.party.party.delete", [1]))
        await world.ask(token, rpc("nosuch"))
        told = caplog.text + world.home.guard_log.read_text() + repr(vars(world.guard)) + repr(vars(world.guard._check))
    for secret in (token, token.rpartition(".")[2], "Planted-Password-77", "as:treasurer"):
        assert secret not in told


async def test_over_a_real_socket_a_gate_that_hangs_up_frees_the_record(world, erp):
    payment = erp.create("stranger", "account.payment", party=erp.create("stranger", "party.party"))
    request, reached = rpc("model.account.payment.approve", [payment]), asyncio.Event()

    erp.rows = never_says_who(erp.rows, reached)
    folder = Path(tempfile.mkdtemp(prefix="g-", dir="/tmp"))
    told = {"host": "localhost", "authorization": f"Bearer {world.token('user:anna')}", **request.headers}
    told |= {"x-gw-decision": "d", "x-gw-revision": world.revision, "x-gw-source": "127.0.0.1"}
    told |= {"content-length": str(len(request.body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    async with guarded(world, erp):
        locks = world.guard._check._locks
        listener = listen(folder / "guard.sock")
        serving = server(Served(world.guard.check, listener))
        running = asyncio.create_task(serving.serve(sockets=[listener]))
        _, gate = await asyncio.open_unix_connection(folder / "guard.sock")
        gate.write(f"POST /check/erp/rpc/ HTTP/1.1\r\n{head}\r\n".encode() + request.body)
        await asyncio.wait_for(reached.wait(), 5)
        assert locks._held
        gate.close()
        freed = asyncio.create_task(locks.hold("next", [("erp", "account.payment", str(payment))], "user:ben"))
        await asyncio.wait_for(freed, 5)
        serving.should_exit = True
        await asyncio.wait_for(running, 5)
    shutil.rmtree(folder)
