"""What is asked of a policy: every answer cites its lines, and its request behaves so at the evaluator and at the gate."""

import base64
import csv
import hashlib
import html
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from ipaddress import ip_address, ip_network
from pathlib import Path

import msgspec
import pytest

from ostiary.cli.main import run
from ostiary.control import questions
from ostiary.control.documents import files_of, read_document
from ostiary.control.prepare import STARTER, initialise
from ostiary.foundation.errors import CallerFault
from ostiary.foundation.home import Home
from ostiary.plan.decide import Reason
from ostiary.policy.document import Document
from ostiary.prove.rules import Request, check, replay
from ostiary.prove.situation import Situation
from ostiary.store.plans import plan_in_force
from running import RUNNING, until

pytestmark = RUNNING
CALLS = {
    "shop/order:read": ("GET", "/shop/orders", b""),
    "shop/order:write": ("POST", "/shop/orders", b'{"lines": []}'),
    "shop/order:delete": ("DELETE", "/shop/orders/1", b""),
    "shop/stock:read": ("GET", "/shop/stock", b""),
    "shop/invoice:read": ("GET", "/shop/invoices", b""),
    "shop/report:execute.run": ("POST", "/shop/reports", b""),
    "shop/party:read": ("GET", "/shop/party", b""),
}
ROLES = """\
roles:
  clerk: {level: user, of: sales, may: ["order: read, write", "stock: read"], when: open}
  boss: {level: department, of: sales, includes: [clerk], may: ["order: read", "party: read", "invoice.*: read"]}
  guest: {level: partner, may: ["stock: read"], when: home}
  night: {level: user, of: sales, may: ["report: execute"], when: shut}
  nowhere: {level: user, of: sales, may: ["invoice: read"], when: [open, shut]}
"""


@pytest.fixture(scope="module")
def now():
    return datetime.now(UTC)


@pytest.fixture
def asked(site, now):
    """The shop with roles that are open now, shut now, and open to one network alone; its text."""

    def hours(first):
        return f"{(now.hour + first) % 24:02}:00-{(now.hour + first + 4) % 24:02}:00"

    contexts = f'  open: {{hours: "{hours(-1)}", zone: UTC}}\n  shut: {{hours: "{hours(6)}", zone: UTC}}\n'
    contexts += "  home: {networks: [203.0.113.0/24]}\n"
    before, _, rest = site.policy().partition("roles:\n")
    text = before + contexts + ROLES + "limits:" + rest.partition("limits:")[2]
    site.apply(text)
    return text


def tokens(site, roles):
    name = "asked-" + "-".join(roles)
    return site.fresh(name) if name in site.secrets else site.client(name, *roles)


def behaves(site, request):
    """The request, replayed: at the evaluator, and at the gate where it is about now or about no time at all."""
    request = msgspec.convert(request, Request)
    assert replay(plan_in_force(site.home), request).reason is request.reason
    soon = abs(datetime.now(UTC) - request.at) < timedelta(minutes=10)
    if not soon and not request.when.startswith("at any time"):
        return False
    method, path, body = CALLS[request.operation]
    more = {"content_type": "application/json"} if body else {}
    answer = site.once(method, path, body, token=tokens(site, request.roles), x_forwarded_for=request.source, **more)
    assert answer.headers.get("ostiary-reason", "allowed") == request.reason, request
    return True


def cited(site, text, finding):
    """The lines that it names say what they say."""
    assert finding["where"], finding
    for at in finding["where"]:
        assert text.splitlines()[at["line"] - 1].strip() == at["text"]


def proved(site, text):
    files = files_of(site.root, "policy.yaml", text)
    return questions.prove(Document(text=text, file="policy.yaml", files=files), site.home, 90)["answers"]


def test_new_access(site, asked):
    wider = asked.replace('"stock: read"], when: home', '"stock: read", "invoice: read"], when: home')
    (found,) = proved(site, wider)["new access"]
    assert "guest may now shop/invoice:read when home" in found["message"]
    (request,) = [msgspec.convert(one, Request) for one in found["requests"]]
    assert replay(plan_in_force(site.home), request).reason is Reason.ROLE
    site.apply(wider)
    assert behaves(site, request)
    site.apply(asked)
    assert behaves(site, msgspec.structs.replace(request, reason=Reason.ROLE))


def test_who_can_do_it_and_under_what_context(site, asked):
    ways = questions.who_can(site.home, "shop/order:read", at=None, source="", outside="")
    assert [(way["role"], way["rule"], way["context"]) for way in ways] == [
        ("clerk", "clerk/1.read", "open"),
        ("boss", "boss/1", "always"),
        ("boss", "clerk/1.read", "open"),
    ]
    assert all(behaves(site, way["request"]) for way in ways)
    tokens(site, ["clerk"])
    (first, *_) = questions.who_can(site.home, "order: read", at=None, source="", outside="")
    assert "client:asked-clerk" in first["holders"]


@pytest.mark.parametrize(
    "operation", ["shop/report:execute.run", "report:execute.run", "report: execute run", "report: execute"]
)
def test_who_can_takes_the_form_that_is_printed_and_a_verb_also_asks_for_its_actions(site, asked, operation):
    site.apply(asked.replace('"report: execute"', '"report: execute run"'))
    ways = questions.who_can(site.home, operation, at=None, source="", outside="")
    assert [(way["role"], way["permission"]) for way in ways] == [("night", "shop/report:execute.run")]


def test_who_can_of_a_family_is_answered_and_of_what_is_none_refused(site, asked):
    site.apply(asked)
    ways = questions.who_can(site.home, "shop/*:execute", at=None, source="", outside="")
    assert "shop/report:execute" in {way["permission"] for way in ways}
    with pytest.raises(CallerFault, match=r"'or\*' names no object"):
        questions.who_can(site.home, "shop/or*:read", at=None, source="", outside="")


def test_who_can_says_that_no_system_knows_what_was_asked_about(site):
    done = site.ostiary("policy", "who-can", "shop/stok:read")
    assert done.out == "Nobody can.\nnote: shop knows no object stok; did you mean stock?\n"
    assert "note" not in site.ostiary("policy", "who-can", "shop/stock:read").out


@pytest.mark.parametrize(
    "operation, outside, roles",
    [("shop/order:read", "open", []), ("shop/order:read", "shut", ["clerk", "boss"]), ("shop/stock:read", "home", ["clerk", "boss"])],
)  # fmt: skip
def test_whether_anybody_can_do_it_outside_hours_or_networks(site, asked, operation, outside, roles):
    ways = questions.who_can(site.home, operation, at=None, source="", outside=outside)
    shown = [way["role"] for way in ways if way["rule"] != "boss/1"]
    assert shown == roles
    for way in ways:
        request = msgspec.convert(way["request"], Request)
        assert behaves(site, request) or outside == "open"  # then it is about another hour
        if outside == "home":
            assert ip_address(request.source) not in ip_network("203.0.113.0/24")


def test_who_can_at_a_time_from_an_address(site, asked, now):
    def roles(operation, at, source):
        return [way["role"] for way in questions.who_can(site.home, operation, at=at, source=source, outside="")]

    assert roles("shop/stock:read", now, "203.0.113.9") == ["clerk", "boss", "guest"]
    assert roles("shop/stock:read", now, "192.0.2.9") == ["clerk", "boss"]
    assert roles("shop/stock:read", now + timedelta(hours=8), "203.0.113.9") == ["guest"]
    assert roles("shop/stock:read", None, "192.0.2.9") == ["clerk", "boss"]
    assert roles("shop/report:execute.run", now, "") == []
    assert roles("shop/report:execute.run", now + timedelta(hours=8), "") == ["night"]


def test_role_within_role(site, asked):
    def beyond(role, other):
        return questions.what_can(site.home, role, at=None, source="", outside="", beyond=other)

    assert beyond("clerk", "boss") == []
    more = beyond("boss", "clerk")
    assert [way["rule"] for way in more] == ["boss/1", "boss/2", "boss/3"]  # at other hours too; and what clerk has not
    (way,) = beyond("guest", "clerk")
    assert way["permission"] == "shop/stock:read"
    assert replay(plan_in_force(site.home), msgspec.convert({**way["request"], "roles": ["clerk"]}, Request)).reason is Reason.CONTEXT  # fmt: skip


def test_what_a_principal_can_do_is_what_his_roles_allow(site, asked):
    tokens(site, ["guest", "night"])
    ways = questions.what_can(site.home, "client:asked-guest-night", at=None, source="", outside="", beyond="")
    assert {(way["role"], way["permission"]) for way in ways} == {("guest", "shop/stock:read"), ("night", "shop/report:execute")}  # fmt: skip
    assert [behaves(site, way["request"]) for way in ways] == [True, False]


def test_who_holds_both_sides_of_an_apart_and_what_never_may_be(site, asked):
    text = (
        asked + 'apart: [{name: two, permissions: ["order: write", "stock: read"]}]\n'
        'never: [{name: no, level: partner, may: "stock: read"}]\n'
    )
    _, rules, _ = read_document(Document(text=text, file="policy.yaml", files=files_of(site.root, "policy.yaml", text)))
    found = check(rules, {"user:anna": frozenset({"guest", "clerk"})}, Situation(datetime.now(UTC)))
    assert [one.message.partition(": ")[0] for one in found] == ["never 'no'", *["apart 'two' (high)"] * 3]
    assert found[0].message == "never 'no': at any time, from 203.0.113.0, role guest may shop/stock:read"
    assert "user:anna holds both" in found[-1].message
    for one in found:
        cited(site, asked, {"where": [msgspec.to_builtins(source) for source in one.where[:-1]]})
        requests = [msgspec.structs.replace(request, roles=("clerk",) if "two" in one.message else request.roles) for request in one.requests]  # fmt: skip
        assert requests
        assert all(behaves(site, msgspec.to_builtins(request)) for request in requests)


def test_dead_shadowed_and_always_denied_lines(site, asked):
    text = asked.replace('"order: read", "party', '"order: write", "party').replace("boss: {", "boss: {when: open, ")
    site.apply(text)
    found = {one["message"]: one for one in proved(site, text)["idle lines"]}
    assert {message.partition(", and ")[0]: message.partition(", and ")[2].split(",")[0] for message in found} == {
        "role nowhere may shop/invoice:read": "never does: open + shut holds at no time and place",
        "role boss may shop/invoice.*:read": "may do nothing there: shop has no such operation",
        "role boss may shop/party:read": "may do nothing there: shop has no such operation",
        "role boss may shop/order:write": "may do so anyhow",
    }
    reasons = []
    for one in found.values():
        cited(site, text, one)
        for request in one["requests"]:
            reasons.append(request["reason"])
            if request["operation"] in CALLS:
                assert behaves(site, request)
    assert sorted(reasons) == ["allowed", "context", "unknown-operation", "unknown-operation"]


def test_grants_unused_and_the_least_privilege_that_was_needed(site, asked):
    text = asked.replace('may: ["order: read", "party: read", "invoice.*: read"]', 'may: ["*: read"]').replace("level: department, of: sales, inc", "level: system, inc")  # fmt: skip
    site.apply(text)
    token = tokens(site, ["boss", "guest"])
    assert site.once("GET", "/shop/invoices", token=token).status == 200

    def unused():
        return {one["message"].partition(";")[0]: one for one in proved(site, text)["more than was used"]}

    until(lambda: "shop/invoice:read" in unused()["role boss may shop/*:read"]["hint"])
    found = unused()
    cited(site, text, found["role boss may shop/*:read"])
    more = text.replace("roles:\n", 'roles:\n  fresh: {level: user, of: sales, may: "stock: read"}\n')
    assert "role fresh may shop/stock:read" not in {
        one["message"].partition(";")[0] for one in proved(site, more)["more than was used"]
    }
    assert "shop/invoice:read" in found["role boss may shop/*:read"]["hint"]
    assert "did nothing of it" in found["role night may shop/report:execute"]["message"]
    assert "role nowhere may shop/invoice:read" not in found  # can't be used at all: an idle line
    assert all(behaves(site, request) for request in found["role boss may shop/*:read"]["requests"])


@pytest.mark.parametrize(
    "ask, code",
    [
        (lambda home: questions.who_can(home, "order: read", at=None, source="", outside="nope"), "no-context"),
        (lambda home: questions.who_can(home, "order: read", at=None, source="home", outside=""), "question-unclear"),
        (lambda home: questions.who_can(home, "order: raed", at=None, source="", outside=""), "question-unclear"),
        (lambda home: questions.what_can(home, "clark", at=None, source="", outside="", beyond=""), "no-role"),
        (lambda home: questions.what_can(home, "clerk", at=None, source="", outside="", beyond="b"), "no-role"),
        (lambda home: questions.what_can(home, "user:x", at=None, source="", outside="", beyond=""), "no-such-principal"),
    ],
)  # fmt: skip
def test_a_question_that_means_nothing_is_refused(site, ask, code):
    with pytest.raises(Exception) as problem:
        ask(site.home)
    assert problem.value.code == code


def test_where_there_is_no_system_nobody_can_do_anything_and_that_is_said(folder):
    home = Home(root=folder / "home")
    initialise(home, text="policy: acme\n")
    for operation in ("order: read", "order:read", "erp/order:read"):
        with pytest.raises(CallerFault) as problem:
            questions.who_can(home, operation, at=None, source="", outside="")
        assert problem.value.code == "question-unclear"


BOTH_DUTIES = """\
policy: acme
systems: {erp: {kind: tryton, at: erp.test, upstream: "http://127.0.0.1:9", database: acme}}
departments: {finance: {}}
roles:
  office: {level: user, of: finance, may: ["party.party: write", "account.payment: execute approve"]}
  other: {level: user, of: finance, may: ["party.party: write", "account.payment: execute approve"]}
apart:
  - {id: P2P-01, name: two, permissions: ["party.party: write", "account.payment: execute approve"], link: party, within: 30 days}
controls:
  - {rules: P2P-01, roles: office, what: w, owner: o, reason: r, until: 2999-12-31}
"""


def test_of_who_does_both_duties_under_a_control_nobody_says_that_the_guard_refuses_it(folder):
    home = Home(root=folder / "home")
    initialise(home, text=BOTH_DUTIES)
    told = questions.prove(Document(text=BOTH_DUTIES, file="policy.yaml"), home, 90)
    (found,) = told["answers"]["both duties"]
    assert "role other holds both" in found["message"]
    assert "the guard refuses the second duty" in found["hint"]
    assert any("'two' does not hold for role office until 2999-12-31" in one for one in told["warnings"])


# --- the documents


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.cells, self._in = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in = tag == "td"

    def handle_data(self, data):
        if self._in and data.strip():
            self.cells.append(data)


@pytest.mark.standard("B9")
def test_who_may_do_what_stands_on_pages_and_in_tables_as_it_is_in_force(site, asked, folder):
    tokens(site, ["boss", "guest"])
    questions.write(site.home, folder)
    rows = {
        name: list(csv.DictReader((folder / f"{name}.csv").read_text().splitlines()))
        for name in ("roles", "objects", "principals")
    }
    plan = plan_in_force(site.home)
    held = {(role.name, grant.id) for role in plan.roles for grant in plan.grants if grant.role in role.closure}
    possible = {(role, rule) for role, rule in held if not rule.startswith("nowhere")}
    assert {(row["role"], row["rule"]) for row in rows["roles"]} == possible
    assert {(row["role"], row["rule"]) for row in rows["objects"]} == possible
    own = [row for row in rows["principals"] if row["name"] == "client:asked-boss-guest"]
    assert {(row["role"], row["rule"]) for row in own} == {one for one in possible if one[0] in {"boss", "guest"}}
    for name, told in rows.items():
        text = (folder / f"{name}.html").read_text()
        assert plan.revision in text
        assert set(Page(text).cells) >= {row["permission"] for row in told}
    site.apply(asked.replace('"stock: read"], when: home', '"invoice: read"], when: home'))
    questions.write(site.home, folder)
    assert "guest,guest,shop/invoice:read" in (folder / "roles.csv").read_text()


@pytest.mark.standard("B9")
def test_what_somebody_may_do_in_an_emergency_stands_there_and_until_when(site, asked, folder):
    tokens(site, ["guest"])
    facts = {"principal": "client:asked-guest", "role": "night", "minutes": 5, "reason": "the shop is down"}
    begun = site.ask("break-glass.start", **facts)
    try:
        questions.write(site.home, folder)
    finally:
        site.ask("break-glass.end", proposal=begun["id"])
    end = begun["text"].rpartition(" ")[2]
    told = csv.DictReader((folder / "principals.csv").read_text().splitlines())
    own = {row["role"]: row["when"] for row in told if row["name"] == "client:asked-guest"}
    assert own.keys() == {"guest", "night"}
    assert f", in an emergency until {end}" in own["night"]
    assert "emergency" not in own["guest"]
    assert f"holds guest, night, in an emergency until {end}" in (folder / "principals.html").read_text()


@pytest.mark.standard("B9")
def test_that_a_system_is_observed_stands_on_every_page_and_table(folder, capsys):
    home = Home(root=folder / "home")
    until_when = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="seconds")
    starter = STARTER.substitute(
        name="acme", system="erp", kind="tryton", host="gate.test", upstream='"http://127.0.0.1:9"', example="",
        needs=f'database: acme, observe-until: "{until_when}"',
    )  # fmt: skip
    initialise(home, text=starter, host="gate.test")
    (caveat,) = questions.caveats(home)
    written = [Path(name) for name in questions.write(home, folder / "access")]
    assert len(written) == 6
    assert [file.name for file in written if caveat not in html.unescape(file.read_text())] == []
    assert run(["policy", "report", "--out", str(folder / "access"), "--home", str(home.root)]) == 0
    assert f"note: {caveat}" in capsys.readouterr().out


def test_a_page_holds_no_script_and_loads_nothing(site, folder):
    questions.write(site.home, folder)
    page = Page((folder / "roles.html").read_text())
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img", "link", "iframe", "form", "object", "base"})
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "style"]
    (policy,) = [attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    style = re.search(r"<style>(.*?)</style>", (folder / "roles.html").read_text(), re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}';" in policy


def test_a_name_neither_runs_in_a_page_nor_in_a_spreadsheet():
    from ostiary.policy.model import Source
    from ostiary.prove.questions import Way

    evil = "=cmd|' /C calc'!A0<script>alert(1)</script>"
    way = Way(role=evil, rule="+1", permission="@x", context="", words="-1", where=Source(file="\tf", line=1, text=""), request=None)  # fmt: skip
    table = list(csv.reader(questions._table([(evil, "", [way])]).splitlines()))
    assert [cell[0] for cell in table[1]] == ["'"] * 6
    page = questions._page().render(
        view="roles", parts=[(evil, evil, [way])], policy=evil, revision=evil, at=evil, caveats=[evil]
    )
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
