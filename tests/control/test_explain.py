"""`explain`: every refusal says which line of which file it was, or what else, and what would have changed it."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from ostiary.control import evidence
from ostiary.event.record import Event
from ostiary.foundation.errors import CallerFault
from ostiary.foundation.home import Home
from ostiary.plan.model import Kind
from ostiary.plan.reason import Reason
from ostiary.prove.explanation import Explanation
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
    assert f"role elsewhere, by {line_of(site, 'elsewhere:')}" in text
    nobody = explained(site, site.once("DELETE", "/shop/orders/1", token=site.token("clerk")), Reason.ROLE)
    assert '"shop/order: delete" in its `may`; no role has it now' in nobody


def test_context(site):
    text = explained(site, site.once("GET", "/shop/invoices", token=site.token("elsewhere")), Reason.CONTEXT)
    assert line_of(site, "elsewhere:") in text
    assert "the same request from 198.51.100.0/24 (never-open" in text


def test_scope(site):
    token = site.client("narrow", "clerk", scopes=["shop/order:read"])
    text = explained(site, site.once("GET", "/shop/stock", token=token), Reason.SCOPE)
    assert line_of(site, "clerk:") in text
    assert "a token with a scope that covers shop/stock:read" in text


def test_token_missing_and_invalid_and_revoked(site):
    assert "/identity/token" in explained(site, site.once("GET", "/shop/stock"), Reason.TOKEN_MISSING)
    forged = site.once("GET", "/shop/stock", token=site.token("clerk")[:-6] + "AAAAAA")
    assert "/identity/token" in explained(site, forged, Reason.TOKEN_INVALID)
    token = site.client("leaver", "clerk")
    site.ask("principal.disable", principal="client:leaver")
    until(lambda: site.once("GET", "/shop/stock", token=token).status == 401)
    text = explained(site, site.once("GET", "/shop/stock", token=token), Reason.TOKEN_REVOKED)
    assert "client:leaver" in text


def test_unknown_operation(site):
    text = explained(site, site.once("GET", "/shop/nowhere", token=site.token("clerk")), Reason.UNKNOWN_OPERATION)
    assert "unknown means denied" in text


def test_too_large_and_invalid(site):
    large = site.once("POST", "/shop/orders", b"x" * 1_100_000, token=site.token("clerk"))
    explained(site, large, Reason.TOO_LARGE)
    invalid = site.once("POST", "/shop/orders", b'{"lines": 1}', token=site.token("clerk"))
    assert "because: the value does not meet 'type'" in explained(site, invalid, Reason.INVALID)


def test_rate_limited(site):
    site.apply(site.policy(default=2))
    token = site.client("eager", "visitor")
    answers = [site.once("GET", "/shop/stock", token=token) for _ in range(3)]
    assert "Retry-After" in explained(site, answers[-1], Reason.RATE_LIMITED)


def test_unavailable(site):
    site.apply(site.policy((f":{site.upstream.server_port}", ":9")))
    answer = until(lambda: (one := site.once("GET", "/shop/stock", token=site.token("clerk"))).status == 503 and one)
    assert "ostiary status" in explained(site, answer, Reason.UNAVAILABLE)


def test_it_reads_the_revision_that_was_in_force_then(site):
    answer = site.once("GET", "/shop/invoices", token=site.token("clerk"))
    before, revision = line_of(site, "clerk:"), (site.home.plans / "current").read_text()
    site.apply("\n\n\n" + site.policy(("stock: read", "invoice: read")))
    text = explained(site, answer, Reason.ROLE)
    assert before in text
    assert revision in text


@pytest.mark.parametrize("decision", ["gate-000000-1.1", ""])
def test_an_id_that_nothing_has_is_refused(site, decision):
    site.once("GET", "/shop/invoices")
    with pytest.raises(CallerFault) as problem:
        site.ask("explain", decision=decision)
    assert problem.value.code == "no-decision"
    assert "ostiary-decision" in problem.value.hint


def test_a_call_before_its_system_was_asked_what_it_offers_says_who_asks_it(tmp_path):
    home = Home(root=tmp_path)
    plan = SimpleNamespace(systems=[SimpleNamespace(name="erp", kind=Kind.TRYTON)])
    event = Event(at=datetime.now(UTC), decision="d", system="erp", reason=Reason.UNKNOWN_OPERATION)
    told = Explanation(reason=event.reason, sentence="s", would_allow=("another operation",))
    assert "ostiary system account erp" in evidence._not_learned(home, plan, event, told).would_allow[0]
    home.create()
    home.catalogue("erp").write_bytes(b"{}")
    assert evidence._not_learned(home, plan, event, told) == told


def test_an_event_without_a_known_caller_and_operation_lists_address_method_and_path(site):
    decision = site.once("GET", "/nowhere/of-interest").decision
    (line,) = until(lambda: [one for one in site.ostiary("event", "list").out.splitlines() if decision in one])
    assert "127.0.0.1" in line
    assert "GET /nowhere/of-interest" in line
