"""`explain`: every refusal says which line of which file it was, or what else, and what would have changed it."""

import json
import re
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace
from sqlalchemy import update
from tools.caller import HIDDEN, Caller, basic, machine_token

import ostiary
from ostiary.cli.demo.stand import authorization
from ostiary.control import evidence, grounds
from ostiary.control.installation import opened
from ostiary.event import record
from ostiary.event.record import Event
from ostiary.foundation.errors import CallerFault
from ostiary.foundation.home import Home
from ostiary.foundation.secret import Secret
from ostiary.plan.decide import Reason
from ostiary.prove.questions import Explanation
from ostiary.store.tables import CLIENT
from running import RUNNING, until

pytestmark = RUNNING
ORDER = b'{"lines": []}'


def line_of(site, text, policy=None):
    """`policy.yaml:N` of the first line that holds `text`."""
    lines = (policy or site.policy()).splitlines()
    return f"policy.yaml:{next(n for n, line in enumerate(lines, 1) if text in line)}"


def explained(site, answer, reason):
    """What `explain` says of a refusal (or of an answer) that had this reason."""
    assert answer.headers.get("ostiary-reason", "allowed") == reason, answer
    told = site.ask("explain", decision=answer.decision)
    assert told["event"]["reason"] == told["explanation"]["reason"] == reason
    assert told["event"]["status"] == answer.status
    assert answer.decision in told["text"]
    return told["text"]


def test_an_allowed_request_names_the_grant(site):
    text = explained(site, site.once("GET", "/shop/stock", token=site.token("clerk")), Reason.ALLOWED)
    assert line_of(site, "clerk:") in text
    assert "shop/stock:read was allowed" in text


def test_role(site):
    text = explained(site, site.once("GET", "/shop/invoices", token=site.token("clerk")), Reason.ROLE)
    assert line_of(site, "clerk:") in text
    (way,) = re.findall(rf"\n  role elsewhere, by {line_of(site, 'elsewhere:')}: (.*)\n", text)
    assert (
        ", and the same request from 198.51.100.0/24 (never-open, policy.yaml:" in way
    )  # the role alone is not enough
    nobody = explained(site, site.once("DELETE", "/shop/orders/1", token=site.token("clerk")), Reason.ROLE)
    assert "no role of the policy grants it" in nobody
    assert 'a new line in the `may` of a role: "shop/order: delete"' in nobody


def test_context(site):
    text = explained(site, site.once("GET", "/shop/invoices", token=site.token("elsewhere")), Reason.CONTEXT)
    assert line_of(site, "elsewhere:") in text
    assert "the same request from 198.51.100.0/24 (never-open" in text
    assert f"{line_of(site, 'never-open:')}: never-open: {{networks" in text


def test_scope(site):
    token = site.client("narrow", "clerk", scopes=["shop/order:read"])
    text = explained(site, site.once("GET", "/shop/stock", token=token), Reason.SCOPE)
    assert line_of(site, "clerk:") in text
    assert "for its client may not ask for it" in text
    (step,) = re.findall("`ostiary client change narrow (.*)`", text)
    assert step == "--scope shop/order:read --scope shop/stock:read"
    event = Event(at=datetime.now(UTC), decision="d", client="narrow", operation="shop/stock:read", reason=Reason.SCOPE)
    more = ("a token with a scope that covers shop/stock:read, and a request within the fields lines",)
    told, plan = Explanation(reason=event.reason, sentence="s", would_allow=more), SimpleNamespace(systems=[])
    with opened(site.home) as on, on.store.read() as connection:
        (way,) = grounds.behind(connection, site.home, plan, event, told).would_allow
    assert way.endswith(f"`ostiary client change narrow {step}`, and a request within the fields lines")
    site.ask("client.change", client_id="narrow", scopes=step.split()[1::2])
    assert site.once("GET", "/shop/stock", token=site.fresh("narrow")).status == 200


def test_a_token_that_was_asked_for_less_than_its_client_may_is_no_matter_of_the_client(site):
    for name, scopes in (("modest", []), ("wide", ["shop/*:read"])):
        site.client(name, "clerk", scopes=scopes)
        who = basic(name, site.secrets[name])
        with closing(Caller(site.origin, site.authority)) as caller:
            answer = caller.form("/identity/token", basic=who, grant_type="client_credentials", scope="shop/order:read")
        token = answer.json()["access_token"]
        text = explained(site, site.once("GET", "/shop/stock", token=token), Reason.SCOPE)
        assert "a token with a scope that covers shop/stock:read" in text
        assert "client change" not in text


def test_token_missing_and_invalid_and_revoked(site):
    assert "/identity/token" in explained(site, site.once("GET", "/shop/stock"), Reason.TOKEN_MISSING)
    forged = site.once("GET", "/shop/stock", token=site.token("clerk")[:-6] + "AAAAAA")
    assert "/identity/token" in explained(site, forged, Reason.TOKEN_INVALID)
    token = site.client("leaver", "clerk")
    site.ask("principal.disable", principal="client:leaver")
    until(lambda: site.once("GET", "/shop/stock", token=token).status == 401)
    text = explained(site, site.once("GET", "/shop/stock", token=token), Reason.TOKEN_REVOKED)
    (who,) = [
        one for one in evidence.list_entries(site.home, action="principal.disable") if one["object"] == "client:leaver"
    ]
    assert f"principal.disable of client:leaver by {who['actor']} at {who['at'][:19]}" in text
    assert "\n  `ostiary client enable leaver`, and then a new access token" in text
    site.ask("principal.enable", principal="client:leaver")
    token = site.fresh("leaver")
    site.ask("token.revoke", principal="client:leaver", reason="laptop lost")
    until(lambda: site.once("GET", "/shop/stock", token=token).status == 401)
    text = explained(site, site.once("GET", "/shop/stock", token=token), Reason.TOKEN_REVOKED)
    assert "token.revoke of client:leaver" in text
    assert "because: laptop lost" in text
    token = site.fresh("leaver")
    with closing(Caller(site.origin, site.authority)) as caller:
        caller.form("/identity/revoke", basic=basic("leaver", site.secrets["leaver"]), token=token)
    until(lambda: site.once("GET", "/shop/stock", token=token).status == 401)
    text = explained(site, site.once("GET", "/shop/stock", token=token), Reason.TOKEN_REVOKED)
    assert re.search("token.revoke of at-[0-9a-f]+ by client:leaver at .*, because: revoked by its client", text)
    assert "laptop" not in text
    event = Event(at=datetime.now(UTC), decision="d", subject="client:leaver", reason=Reason.TOKEN_REVOKED)
    told, plan = Explanation(reason=event.reason, sentence="s"), SimpleNamespace(systems=[])
    with opened(site.home) as on, on.store.read() as connection:
        assert "laptop lost" in grounds.behind(connection, site.home, plan, event, told).sentence
        signed_in_since = replace(event, signed_in_s=int(event.at.timestamp()) + 1)
        assert grounds.behind(connection, site.home, plan, signed_in_since, told) == told


def test_unknown_operation(site):
    def told(method, path, body=None):
        answer = site.once(method, f"/shop{path}", body, token=site.token("clerk"))
        return explained(site, answer, Reason.UNKNOWN_OPERATION)

    text = told("GET", "/nowhere")
    assert re.search(r"nothing in \S+yaml is GET /nowhere\n", text)
    assert "unknown means denied: `ostiary policy draft --from shop` lists it" in text
    assert "is PUT /orders/7, but DELETE and GET\n" in told("PUT", "/orders/7")
    queried = site.once("GET", "/shop/stock?x=1", token=site.token("clerk"))
    assert "no query or body where none is described\n" in explained(site, queried, Reason.INVALID)
    away = explained(site, site.once("GET", "/nowhere", token=site.token("clerk")), Reason.UNKNOWN_OPERATION)
    assert re.search(r"nothing stands at localhost(:\d+)?/nowhere; shop is at localhost/shop", away)
    other = explained(
        site, site.once("GET", "/shop/stock", token=site.token("clerk"), host="other.example"), Reason.UNKNOWN_OPERATION
    )
    assert "nothing stands at other.example/shop/stock; shop is at localhost/shop" in other
    assert "is GET /STOCK, but GET /stock is, in other letters\n" in told("GET", "/STOCK")
    assert "in other letters" not in told("POST", "/STOCK")


def test_an_operation_that_is_left_out_of_its_document_is_told_why(site):
    same = site.spec.read_text()
    files = "paths:\n  /files/{id}: {post: {requestBody: {content: {multipart/form-data: {}}}}}\n"
    try:
        site.spec.write_text(same.replace("paths:\n", files, 1))
        site.apply(site.policy())
        answer = site.once("POST", "/shop/files/7", b"x", token=site.token("clerk"))
        text = explained(site, answer, Reason.UNKNOWN_OPERATION)
        assert "POST /files/{id} is left out, and so denied: only JSON bodies are understood" in text
        assert "nothing in" not in text
        other = explained(
            site, site.once("POST", "/shop/files", b"x", token=site.token("clerk")), Reason.UNKNOWN_OPERATION
        )
        assert "is left out, and so denied" not in other
    finally:
        site.spec.write_text(same)
        site.apply(site.policy())


@pytest.mark.parametrize(
    ("template", "call", "meant"),
    [
        ("POST /files/{id}", "POST /files/7", True),
        ("POST /files/{id}", "GET /files/7", False),
        ("/files/{id}", "GET /files/7", True),
        ("/files/{id}", "GET /files/", False),
        ("/files/{id}", "GET /files/7/lines", False),
        ("/reports/{from}-{to}.{kind}", "GET /reports/1-2.csv", True),
        ("/reports/{from}-{to}.{kind}", "GET /reports/1.csv", False),
        ("/reports/{a}-{b}-{c}-{d}-{e}", f"GET /reports/{'-' * 8_000}/", False),
    ],
)
def test_a_path_that_a_caller_wrote_is_held_against_a_template_at_once(template, call, meant):
    """In control too, whose silence closes the gate."""
    assert grounds._meant(template, call) is meant


def test_too_large_and_invalid(site):
    large = site.once("POST", "/shop/orders", b"x" * 1_100_000, token=site.token("clerk"))
    text = explained(site, large, Reason.TOO_LARGE)
    assert "by limits, body: 1 MB\n" in text
    assert line_of(site, "body: 1 MB") in text
    many = site.once("POST", "/shop/orders", b"[" + b"1," * 250_000 + b"1]", token=site.token("clerk"))
    told = explained(site, many, Reason.TOO_LARGE)
    assert ("because: " in told, "limits" in told) == (True, False)
    invalid = site.once("POST", "/shop/orders", b'{"lines": 1}', token=site.token("clerk"))
    told = explained(site, invalid, Reason.INVALID)
    assert "because: the value does not meet 'type' of its description (/lines)" in told
    stray = site.once("GET", "/shop/orders?custmer=7", token=site.token("clerk"))
    assert "because: a query parameter is not described (/query/custmer)" in explained(site, stray, Reason.INVALID)


def test_a_refusal_that_the_guard_has_not_written_yet_is_waited_for(site, monkeypatch):
    """It answers first and writes then: who asks at once is told why all the same."""
    answer = site.once("POST", "/shop/orders", b'{"lines": 1}', token=site.token("clerk"))
    explained(site, answer, Reason.INVALID)
    written, looks = record.guard_line, []

    def late(log, decision):
        looks.append(log)
        return written(log, decision) if len(looks) > 2 else None

    monkeypatch.setattr(grounds.record, "guard_line", late)
    assert "because: " in grounds.explain(site.home, answer.decision)["text"]


def test_rate_limited(site):
    site.apply(site.policy(default=2))
    token = site.client("eager", "visitor")
    answers = [site.once("GET", "/shop/stock", token=token) for _ in range(3)]
    text = explained(site, answers[-1], Reason.RATE_LIMITED)
    assert "Retry-After" in text
    assert "by limits: default: 2/hour\n" in text
    assert line_of(site, "  default:") in text
    site.apply(site.policy(anonymous=2))
    answers = [site.once("GET", "/shop/stock") for _ in range(3)]
    text = explained(site, answers[-1], Reason.RATE_LIMITED)
    assert "by limits: anonymous: 2/minute\n" in text
    assert line_of(site, "  anonymous:") in text


def test_unavailable(site):
    site.apply(site.policy((f":{site.upstream.server_port}", ":9")))
    answer = until(lambda: (one := site.once("GET", "/shop/stock", token=site.token("clerk"))).status == 503 and one)
    text = explained(site, answer, Reason.UNAVAILABLE)
    assert "ostiary status" in text
    assert "shop does not answer" in text
    assert "http://127.0.0.1:9" in text


def test_a_wrong_client_secret_is_said_in_words_and_never_shown(site):
    site.client("guessed", "clerk")
    answer = machine_token(site.caller(), "guessed", Secret("not-the-secret-of-it"))
    text = site.ask("explain", decision=answer.decision)["text"]
    assert "token by client:guessed was refused: invalid_client: wrong client secret" in text
    assert "ostiary client rotate guessed" in text
    assert "not-the-secret" not in json.dumps(site.ask("explain", decision=answer.decision))
    nobody = machine_token(site.caller(), "my-secret-as-a-name", Secret("guessed"))
    text = site.ask("explain", decision=nobody.decision)["text"]
    assert "no such client" in text
    assert "my-secret" not in text
    tried = site.ostiary("event", "list", "--reason", "credential-invalid", "--limit", "2")
    assert [line.split()[2] for line in tried.out.splitlines()[1:]] == ["credential-invalid"] * 2
    assert answer.decision in tried.out
    site.ask("principal.disable", principal="client:guessed")
    shut = machine_token(site.caller(), "guessed", Secret("guess"))
    text = site.ask("explain", decision=shut.decision)["text"]
    assert "by client:guessed was refused: invalid_client: the client is disabled" in text
    assert "its client again: `ostiary client enable guessed`" in text
    site.ask("principal.enable", principal="client:guessed")
    with opened(site.home) as on, on.store.begin() as connection:
        connection.execute(update(CLIENT).where(CLIENT.c.principal == "client:guessed").values(until_s=1))
    ended = machine_token(site.caller(), "guessed", Secret("guess"))
    assert "`ostiary client change guessed --days 365`" in site.ask("explain", decision=ended.decision)["text"]
    site.ask("principal.remove", principal="client:guessed")  # else the status is red for whoever comes next


def test_wrong_passwords_and_the_lock_they_lead_to_are_said_in_words(site):
    site.ask("client.add", client_id="door", auth="none", redirects=["https://door.example/back"])
    site.ask("user.add", login="locky", password="seven amber lanterns", roles=["clerk"])
    page = site.caller().send("GET", authorization("door", "https://door.example/back", "v" * 43))
    cookie = page.headers["set-cookie"].split(";")[0]
    fields = dict(HIDDEN.findall(page.body.decode()))

    def tried(login, password):
        sent = {**fields, "username": login, "password": password, "decision": "allow"}
        answer = site.caller().form("/identity/sign-in", cookie=cookie, **sent)
        decisions.append(answer.decision)
        return site.ask("explain", decision=answer.decision)["text"]

    def listed(name):
        return {one["decision"]: one["subject"] for one in evidence.list_events(site.home, principal=name)}

    decisions = []

    told = [tried("locky", "guess guess guess") for _ in range(5)]
    assert all("sign-in of user:locky through client:door was refused: wrong password" in text for text in told)
    assert until(lambda: len(listed("locky")) == 5 and listed("locky")) == dict.fromkeys(
        decisions, "unproved:user:locky"
    )
    assert decisions[0] in site.ostiary("event", "list", "--principal", "locky").out
    assert set(decisions) <= set(listed("client:door"))
    locked = tried("locky", "seven amber lanterns")
    assert re.search(r"user:locky was locked for \d+ s more", locked)
    assert "ostiary user password locky" in locked
    assert 0 < site.ask("principal.show", principal="user:locky")["locked_s"] <= 300
    site.ask("principal.disable", principal="user:locky")
    site.ask("principal.enable", principal="user:locky")  # the lock goes
    assert "sign-in of user:locky through client:door was allowed" in tried("locky", "seven amber lanterns")
    assert until(lambda: listed("locky").get(decisions[-1])) == "user:locky"
    site.ask("principal.disable", principal="user:locky")
    for password in ("guess guess guess", "seven amber lanterns"):
        text = tried("locky", password)
        assert "sign-in of user:locky through client:door was refused: user:locky is disabled" in text
        assert "the account again: `ostiary user enable locky`" in text
    assert "no such user" in tried("a whole secret phrase", "x")
    assert "a whole secret phrase" not in tried("a whole secret phrase", "x")


def test_it_reads_the_revision_that_was_in_force_then(site):
    answer = site.once("GET", "/shop/invoices", token=site.token("clerk"))
    before, revision = line_of(site, "clerk:"), (site.home.plans / "current").read_text()
    site.apply("\n\n\n" + site.policy(("stock: read", "invoice: read")))
    text = explained(site, answer, Reason.ROLE)
    assert before in text
    assert revision in text
    assert f"role clerk, by policy.yaml:{int(before.partition(':')[2]) + 3}" in text  # what helps today


def test_a_role_that_is_gone_is_not_proposed_any_more(site):
    token = site.client("late", "visitor", "clerk")
    answer = site.once("GET", "/shop/invoices", token=token)
    assert "role elsewhere, by" in explained(site, answer, Reason.ROLE)
    gone = next(line for line in site.policy().splitlines() if line.startswith("  elsewhere:"))
    site.apply(site.policy((gone, ""), ("  visitor:", "  guest:")))
    text = explained(site, answer, Reason.ROLE)
    assert "elsewhere" not in text
    assert "a new line in the `may` of a role" in text
    assert "`ostiary client roles late clerk ROLE`" in text
    site.ask("principal.remove", principal="client:late")  # it holds what other tests keep apart
    site.apply(site.policy())


@pytest.mark.parametrize("decision", ["gate-000000-1.1", ""])
def test_an_id_that_nothing_has_is_refused(site, decision):
    site.once("GET", "/shop/invoices")
    with pytest.raises(CallerFault) as problem:
        site.ask("explain", decision=decision)
    assert problem.value.code == "no-decision"
    assert "ostiary-decision" in problem.value.hint


def test_a_call_before_its_system_was_asked_what_it_offers_says_who_asks_it(tmp_path):
    home = Home(root=tmp_path)
    plan = SimpleNamespace(systems=[SimpleNamespace(name="erp", guarded=True)])
    event = Event(at=datetime.now(UTC), decision="d", system="erp", reason=Reason.UNKNOWN_OPERATION)
    told = Explanation(reason=event.reason, sentence="s", would_allow=("another operation",))
    assert "ostiary system account erp" in grounds.behind(None, home, plan, event, told).would_allow[0]
    home.create()
    home.catalogue("erp").write_bytes(b"{}")
    assert grounds.behind(None, home, plan, event, told) == told


def test_every_action_that_is_audited_can_be_asked_for():
    source = "\n".join(path.read_text() for path in Path(ostiary.__file__).parent.rglob("*.py"))
    told = set(re.findall(r'(?:\bnote\(|\baction ?= ?)"([a-z]+\.[a-z-]+)"', source))
    assert len(told) > 12
    assert told <= set(evidence.ACTS["actions"])


def test_a_name_that_two_have_is_asked_for_in_full(site):
    for kind, more in (
        ("client", {"client_id": "twin"}),
        ("user", {"login": "twin", "password": "seven amber lanterns"}),
    ):
        site.ask(f"{kind}.add", **more)
    with pytest.raises(CallerFault, match=r"client:twin and|user:twin and"):
        evidence.list_events(site.home, principal="twin")
    with pytest.raises(CallerFault, match="client:twin and user:twin are both called twin"):
        site.ask("token.revoke", principal="twin")
    site.client("bare", "clerk")  # one of its own: others go on with theirs
    assert site.ask("token.revoke", principal="bare")["keys"]


def test_an_event_without_a_known_caller_and_operation_lists_address_method_and_path(site):
    decision = site.once("GET", "/nowhere/of-interest").decision
    (line,) = until(lambda: [one for one in site.ostiary("event", "list").out.splitlines() if decision in one])
    assert "127.0.0.1" in line
    assert "GET /nowhere/of-interest" in line


@pytest.mark.standard("B3")
def test_a_field_that_no_line_grants_is_named_with_the_line_that_comes_nearest(site):
    packer, seen = site.token("packer"), len(site.upstream.seen)
    refused = site.once("POST", "/shop/orders", b'{"lines": [], "customer": "x"}', token=packer)
    assert (refused.status, refused.reason) == (403, "field")
    assert len(site.upstream.seen) == seen
    text = explained(site, refused, Reason.FIELD)
    assert "customer" in text
    assert f"a request within the fields lines: packer/1, {line_of(site, 'packer:')}" in text
    assert site.once("POST", "/shop/orders", ORDER, token=packer).status == 200


def test_what_an_integrator_sent_is_said():
    note = {
        "outcome": "invalid_scope",
        "action": "sign-in",
        "client": "web",
        "why": "no such scope",
        "sent": "orders:read",
    }
    told = grounds.noted(note).sentence
    assert told == "sign-in by client:web was refused: invalid_scope: no such scope: orders:read"


@pytest.mark.parametrize(
    ("shown", "because"),
    [
        ("abc", "it is no access token"),
        ("eyJhbGciOiJFUzI1NiJ9.e30.AAAA", "another server gave it"),
        ("tampered", "it was changed since it was signed"),
    ],
)
def test_what_is_amiss_with_a_token_is_said(site, shown, because):
    token = site.token("packer")
    text = token[:-12] + "AAAAAAAAAAAA" if shown == "tampered" else shown
    refused = site.once("GET", "/shop/orders", token=text)
    assert (refused.status, refused.reason) == (401, "token-invalid")
    assert f"The access token is not valid here: {because}" in explained(site, refused, Reason.TOKEN_INVALID)
