"""While a system is observed the guard lets pass whom the ERP alone knows, notes what the policy would decide, and no more."""

import base64
import json

import pytest
from msgspec.structs import replace
from sqlalchemy import insert

from guard_world import POLICY, TwinErp, guarded, later, make, rpc
from odoo_twin import Odoo
from ostiary.erp import odoo
from ostiary.erp.operation import Request
from ostiary.foundation.jose import issued_by
from ostiary.guard import proof
from ostiary.store.tables import ASSIGNMENT

READ = rpc("model.party.party.search_read", [], 0, 3, None, ["name"])
PAY = rpc("model.account.payment.approve", [1])
GROUPS = rpc("model.account.payment.group.read", [1], [])
OBSERVED = POLICY.replace("database: erp,", 'database: erp, observe-until: "2026-03-04T00:00Z",')


def basic(login, password="hunter2"):
    return "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()


def session(login):
    return "Session " + base64.b64encode(f"{login}:5:s3cr3t".encode()).decode()


@pytest.fixture
def world(tmp_path):
    made = make(tmp_path / "home", policy=OBSERVED)
    made.person("user:anna", "approver", uid="5")
    made.role_set(("payments",))
    with made.store.begin() as connection:
        connection.execute(insert(ASSIGNMENT), [{"principal": "user:anna", "role": "payments"}])
    return made


@pytest.fixture
def erp(world):
    return TwinErp(world.clock)


async def shown(world, authorization, request, **headers):
    """As the gate asks of a request in which it found no token."""
    drop = () if authorization else ("authorization",)
    return await world.ask("", request, drop=drop, authorization=authorization, **headers)


async def test_the_callers_own_credential_and_no_other_is_handed_over(world, erp):
    async with guarded(world, erp):
        answer = await shown(world, session("approver"), READ)
        assert answer.allowed
        assert answer.headers["authorization"] == session("approver")
        assert answer.rule == "observe"
        answer = await shown(world, "", READ, x_api_key="k1")
        assert (answer.headers["x-api-key"], "authorization" in answer.headers) == ("k1", False)
        assert answer.headers["x-envoy-auth-headers-to-remove"] == "authorization,cookie"
        answer = await shown(world, "", READ, cookie="session=x")
        assert {"cookie", "authorization"}.isdisjoint(answer.headers)


async def test_an_odoos_callers_with_their_own_password_in_the_body_pass_as_they_did(tmp_path):
    """Whatever the gate will hand over once it enforces: no key of it is put on here."""
    text = """
policy: world
systems:
  erp: {kind: odoo, at: localhost, upstream: "UPSTREAM", database: acme, observe-until: "2026-03-04T00:00Z"}
departments: {sales: {}}
roles: {seller: {level: user, of: sales, may: ["sale.order: read"]}}
"""
    rows = Odoo().tables["ir.model.fields"].values()
    world = make(tmp_path / "home", policy=text, catalogue=odoo.learn(rows))
    args = ["acme", 2, "planted", "sale.order", "read", [[1], ["name"]]]
    body = json.dumps({"params": {"service": "object", "method": "execute_kw", "args": args}}).encode()
    headers = {"content-type": "application/json"}
    sent = Request(method="POST", path="/jsonrpc", headers=headers, body=body)
    async with guarded(world):
        assert (await shown(world, "", sent)).allowed
        assert (
            await shown(world, "", replace(sent, body=body.replace(b"object", b"db")))
        ).reason == "unknown-operation"


async def test_what_the_policy_would_decide_is_noted_for_the_user_that_is_mapped(world, erp):
    async with guarded(world, erp):
        assert (await shown(world, basic("approver"), PAY)).draft == "allowed:payments/2.execute.approve"
        assert (await shown(world, basic("approver"), GROUPS)).draft == "role:-"
        assert (await shown(world, basic("stranger"), READ)).draft == "role:-"
        assert (await shown(world, "", READ)).draft == "role:-"
    lines = world.journal()
    assert [(one["subject"], one["reason"], one["rule"]) for one in lines] == [
        ("unproved:approver", "allowed", "observe"), ("unproved:approver", "allowed", "observe"),
        ("unproved:stranger", "allowed", "observe"), ("unproved:-", "allowed", "observe"),
    ]  # fmt: skip
    assert lines[0]["operations"] == ["erp/account.payment:execute.approve"]
    assert lines[0]["person"] == lines[0]["client"] == ""


@pytest.mark.parametrize(("authorization", "name"), [
    (basic("anna"), "anna"), (session("anna@acme.example"), "anna@acme.example"), (basic("s3cr3t-key", ""), "-"),
    ("Bearer s3cr3t", "-"), ("Basic %%%", "-"), ("Basic " + base64.b64encode(b"\xff:x").decode(), "-"),
    (basic("a b\r\nx"), "a%20b%0D%0Ax"), (basic("x" * 999), "x" * 60), ("", "-"), ("Basic", "-"),
])  # fmt: skip
def test_a_caller_is_called_by_the_login_and_never_by_a_secret(authorization, name):
    made = proof.unproved_caller("erp", proof.unproved_login(authorization), ())
    assert made.claims.subject == f"unproved:{name}"


async def test_no_secret_of_the_caller_is_in_the_journal_or_the_events_words(world, erp):
    async with guarded(world, erp):
        answers = [
            await shown(world, basic("anna", "s3cr3t"), READ),
            await shown(world, "Bearer s3cr3t", READ, x_api_key="s3cr3t"),
            await shown(world, "", rpc("common.db.login", "anna", {"password": "s3cr3t"})),
        ]
    assert all(answer.allowed for answer in answers)
    assert "s3cr3t" not in world.home.guard_log.read_text()
    assert not [one for one in answers if "s3cr3t" in one.headers["ostiary-decided"]]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (replace(READ, body=READ.body[:-1]), "invalid"),
        (replace(READ, body=READ.body.replace(b'"id": 1', b'"id": 1, "id": 2')), "invalid"),
        (replace(READ, body=READ.body.replace(b"[]", b"NaN", 1)), "invalid"),
        (replace(READ, headers={**READ.headers, "content-encoding": "gzip"}), "invalid"),
        (replace(READ, headers={"content-type": "text/plain"}), "invalid"),
        (replace(READ, path="/erp/rpc/../rpc/"), "unknown-operation"),
        (replace(READ, path="/other/rpc/"), "unknown-operation"),
        (replace(READ, path="/erp/bus"), "unknown-operation"),
        (rpc("model.no.such.read", [1], []), "unknown-operation"),
        (rpc("model.party.party.nothing"), "unknown-operation"),
        (rpc("model.party.party.read", [1], ["no_such_field"]), "unknown-operation"),
        (rpc("common.db.drop", "erp"), "unknown-operation"),
        (rpc("system.listMethods"), "unknown-operation"),
        (replace(READ, body=b'{"id": 1, "method": {}, "params": []}'), "unknown-operation"),
        (replace(rpc("model.party.party.read", [1], ["name"]), path="/rpc/"), "unknown-operation"),
        (replace(rpc("common.db.login", "anna", {}), path="/rpc/"), "unknown-operation"),
        (rpc("common.db.login", "anna\u202e", {}), "invalid"),
    ],
)
async def test_what_is_not_understood_is_refused_all_the_same(world, erp, request_, reason):
    async with guarded(world, erp):
        answer = await shown(world, session("approver"), request_)
    assert (answer.allowed, answer.reason) == (False, reason)
    assert "authorization" not in answer.headers


@pytest.mark.parametrize("request_", [
    rpc("common.db.login", "anna", {"password": "x"}, "en"), rpc("common.db.logout"),
    *(replace(rpc(method), path="/rpc/") for method in ("common.server.version", "common.db.list", "common.authentication.services")),
])  # fmt: skip
async def test_what_a_client_needs_to_sign_in_passes_and_no_policy_could_grant_it(world, erp, request_, tmp_path):
    async with guarded(world, erp):
        answer = await shown(world, "", request_)
        assert (answer.allowed, answer.rule, answer.draft) == (True, "observe", "unknown-operation:-")
        assert answer.operation.startswith("erp/common.")
        token = world.token("user:anna")
        assert (await world.ask(token, request_, x_gw_sub="user:anna")).reason == "unknown-operation"
    assert world.journal()[0]["operations"] == []  # nothing that a draft could propose
    enforced = make(tmp_path / "enforced")
    async with guarded(enforced, erp):
        assert (await enforced.ask(enforced.token("user:anna"), request_)).reason == "unknown-operation"


# -- tokens


async def test_a_token_is_judged_as_ever(world, erp):
    async with guarded(world, erp):
        token = world.token("user:anna")
        answer = await world.ask(token, READ, x_gw_sub="user:anna", x_api_key="k1")
        assert (answer.headers["authorization"], answer.rule) == ("as:approver", "payments/1.read")
        assert "x-api-key" not in answer.headers
        assert (await world.ask(token, GROUPS, x_gw_sub="user:anna")).reason == "role"
        world.guard._knowledge.take_revoked([f"gen:{'user:anna#1'}"])
        assert (await world.ask(token, READ, x_gw_sub="user:anna")).reason == "token-revoked"


async def test_a_token_of_ours_goes_to_no_erp_wherever_it_is_shown(world, erp):
    """What the gate did not verify: expired, for another system, spelled otherwise, or in another header."""
    async with guarded(world, erp):
        token = world.token("user:anna")
        for headers in (
            {"authorization": f"Bearer {token}"}, {"authorization": f"bearer {token}"}, {"authorization": f"Token {token}"},
            {"authorization": f"Bearer {token[:-5]}AAAAA"}, {"authorization": basic("anna"), "x_api_key": token},
        ):  # fmt: skip
            answer = await shown(world, headers.pop("authorization"), READ, **headers)
            assert (answer.reason, "authorization" in answer.headers) == ("token-invalid", False)


async def test_who_is_verified_by_the_gate_is_nobody_else_for_the_guard(world, erp):
    async with guarded(world, erp):
        answer = await shown(world, session("approver"), READ, x_gw_sub="user:anna")
        assert answer.reason == "token-missing"
        answer = await world.raw(READ, [(b"authorization", b"Basic x"), (b"authorization", b"Basic y")])
        assert answer.reason == "invalid"


def test_a_token_is_known_by_its_issuer_whatever_else_it_is():
    def token(claims):
        part = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        return f"eyJhbGciOiJub25lIn0.{part}."

    assert issued_by("https://us", f"Bearer {token({'iss': 'https://us'})}")
    assert issued_by("https://us", f"{token({'iss': 'x'})},{token({'iss': 'https://us'})}")
    for other in (
        token({"iss": "https://them"}),
        token([]),
        token("https://us"),
        "eyJx.%%%.y",
        "eyJ.eyJ.eyJ",
        "",
        "eyJ.////",
    ):
        assert not issued_by("https://us", other)


@pytest.mark.parametrize(
    ("authorization", "more"),
    [
        ("bearer ostiary_key_scale.x", {}),
        ("Bearer  ostiary_key_scale.x", {}),
        ("Token ostiary_secret_x", {}),
        (basic("ostiary_key_scale.x", ""), {}),
        (basic("anna", "ostiary_key_scale.x").rstrip("="), {}),
        ("", {"x_api_key": "ostiary_key_scale.x"}),
    ],
)
async def test_no_api_key_of_ours_goes_to_an_erp_that_is_observed(world, erp, authorization, more):
    async with guarded(world, erp):
        answer = await shown(world, authorization, READ, **more)
    assert (answer.reason, "x-api-key" in answer.headers, "authorization" in answer.headers) == (
        "token-invalid",
        False,
        False,
    )


def test_nobody_holds_the_guard_up_with_what_looks_like_many_tokens():
    """Each part of the header is looked at once, and what is nested without end is no token."""
    nested = base64.urlsafe_b64encode(b'{"iss":' + b"[" * 40_000).decode().rstrip("=")
    for text in ("eyJ" * 20_000, "eyJ." * 15_000, f"eyJh.{nested}."):
        assert not issued_by("https://us", text)


# -- the end


async def test_after_the_end_nobody_passes_by_the_erps_own_credential(world, erp):
    async with guarded(world, erp):
        assert (await shown(world, session("approver"), READ)).allowed
        later(world, hours=14)
        for own in (session("approver"), basic("approver"), "", "Token x"):
            assert (await shown(world, own, READ, x_api_key="k")).reason == "token-missing"
        assert (await shown(world, "Bearer x", READ)).reason == "token-invalid"
        assert (await world.ask(world.token("user:anna"), READ, x_gw_sub="user:anna")).allowed


async def test_a_system_that_is_not_observed_takes_no_credential_but_a_token(tmp_path, erp):
    plain = make(tmp_path / "plain")
    async with guarded(plain, erp):
        for own in (session("approver"), basic("approver"), ""):
            assert (await shown(plain, own, READ, x_api_key="k")).reason == "token-missing"


async def test_nothing_passes_that_can_not_be_recorded(world, erp, monkeypatch):
    monkeypatch.setattr("ostiary.guard.journal.DISK_FREE_MIN_BYTES", 2**62)
    async with guarded(world, erp):
        world.guard._check._journal._free_min = 2**62
        assert (await shown(world, session("approver"), READ)).reason == "closed"


async def test_a_described_system_is_parsed_as_strictly_for_whom_the_erp_alone_knows(tmp_path):
    spec = {"openapi": "3.1.0", "info": {"title": "x", "version": "1"}, "paths": {"/orders": {"post": {
        "tags": ["Order"], "requestBody": {"content": {"application/json": {"schema": {
            "type": "object", "additionalProperties": False, "properties": {"n": {"type": "integer"}}}}}}}}}}  # fmt: skip
    (tmp_path / "home").mkdir()
    (tmp_path / "home/s.json").write_text(json.dumps(spec))
    system = '  shop: {kind: openapi, at: localhost/shop, upstream: "http://127.0.0.1:9", spec: s.json, observe-until: "2026-03-04T00:00Z"}\n'
    made = make(tmp_path / "home", policy=POLICY.replace("systems:\n", "systems:\n" + system).replace('"party.', '"erp/party.').replace('"account.', '"erp/account.'))  # fmt: skip

    def sent(body, query="", kind="application/json"):
        return Request(method="POST", path="/shop/orders", query=query, headers={"content-type": kind}, body=body)

    async with guarded(made):
        answer = await shown(made, basic("anna"), sent(b'{"n": 1}'))
        assert (answer.headers["authorization"], answer.operation) == (basic("anna"), "shop/order:write")
        for request in (
            sent(b'{"n": 1, "n": 2}'),
            sent(b'{"m": 1}'),
            sent(b'{"n": 1}', query="api_key=x"),
            sent(b"n=1"),
        ):
            assert (await shown(made, basic("anna"), request)).reason == "invalid"
        assert (await shown(made, basic("anna"), READ)).reason == "token-missing"
