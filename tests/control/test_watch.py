"""The watch on a running installation: what is noticed, what is done about it, and undoing it."""

import json
import re
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import update
from tools.caller import FORM, basic

from ostiary.control import evidence
from ostiary.control.installation import opened
from ostiary.foundation.home import Home
from ostiary.foundation.secret import Secret
from ostiary.store.tables import MEASURE
from running import RUNNING, until

pytestmark = RUNNING
addresses = (f"203.0.113.{n}" for n in count(1))
FORGED = "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl"


def guess(site, address, times=6):
    """Forged tokens, from an address behind the proxy that is trusted."""
    caller = site.caller(FORGED)
    return [caller.send("GET", "/shop/stock", x_forwarded_for=address).status for _ in range(times)]


def alerts(site, address, **more):
    return [one for one in site.ask("alert.list", **more) if one["key"] == f"address:{address}"]


def measures(site, address, **more):
    return [one for one in site.ask("measure.list", **more) if one["target"] == f"{address}/32"]


def look(site, address):
    return site.once("GET", "/shop/stock", token=site.token("visitor"), x_forwarded_for=address)


@pytest.fixture
def blocked(site):
    """An address that guessed until it was blocked."""
    address = next(addresses)
    assert guess(site, address) == [401] * 6
    until(lambda: look(site, address).reason == "address-blocked")
    yield address
    for measure in measures(site, address):
        site.ask("measure.undo", measure=measure["id"])
    for alert in alerts(site, address):
        site.ask("alert.resolve", alert=alert["id"])


@pytest.mark.standard("F4")
@pytest.mark.standard("E5")
def test_repeated_failures_block_an_address_for_a_time_and_nobody_else(site, blocked):
    (measure,) = measures(site, blocked)
    assert measure["kind"] == "block"
    assert measure["rule"] == "authentication-failures"
    assert measure["expires"] > measure["made"]
    assert look(site, next(addresses)).status == 200
    refused = look(site, blocked)
    assert refused.status == 403
    assert "ostiary measure list" in site.ask("explain", decision=refused.decision)["text"]


@pytest.mark.standard("A7")
@pytest.mark.standard("F4")
def test_a_network_that_an_administrator_blocks_reaches_neither_the_erp_nor_identity_until_it_is_undone(site, blocked):
    """On a connection that was open before, too; and whatever the watch blocks within it meanwhile."""
    caller, network = site.caller(site.token("visitor")), "203.0.113.0/24"
    elsewhere = "198.51.100.7"

    def reasons(address):
        paths = ("/shop/stock", "/identity/authorize", "/identity/token", "/identity/jwks", "/identity/scim/v2/Users")
        return {caller.send("GET", path, x_forwarded_for=address).reason == "address-blocked" for path in paths}

    inside = next(addresses)
    assert reasons(inside) == {False}
    told = site.ostiary("measure", "block", network, "--for", "1d", "--reason", "scans us", "--json").json
    try:
        until(lambda: reasons(inside) == {True})
        assert (reasons(blocked), reasons(elsewhere)) == ({True}, {False})
        (listed,) = [one for one in site.ask("measure.list") if one["target"] == network]
        made, expires = (datetime.fromisoformat(listed[name]) for name in ("made", "expires"))
        assert (expires - made, listed["expires"]) == (timedelta(days=1), told["expires"])
        assert (listed["rule"], listed["reason"], listed["id"]) == ("by hand", "scans us", told["measure"])
        noted = site.ask("audit.list", action="measure.make", limit=1)[0]
        assert (noted["object"], noted["reason"]) == (told["measure"], "scans us")
        assert noted["actor"] != "ostiary"
    finally:
        undone = site.ostiary("measure", "undo", told["measure"])
    assert undone.code == 0
    until(lambda: reasons(inside) == {False})
    assert reasons(blocked) == {True}, "its own block is another one"


def test_what_may_not_be_blocked_or_is_not_said_well_is_refused_with_what_to_write(site):
    spared = "192.0.2.16/28"
    site.apply(site.policy(("limits:", f"response: {{spare: {spared}}}\n\nlimits:")))
    before = site.ask("measure.list", everything=True)
    for network, length, reason, hint in (
        ("127.0.0.1", "1d", "why", "response: spare"),
        ("0.0.0.0/0", "1d", "why", "response: spare"),
        ("::/0", "1d", "why", "response: spare"),
        ("192.0.2.17", "1d", "why", "response: spare"),
        ("192.0.2.0/24", "1d", "why", "response: spare"),
        ("10.1.2.3/8", "1d", "why", "203.0.113.0/24"),
        ("example.com", "1d", "why", "203.0.113.0/24"),
        ("::ffff:198.51.100.9", "1d", "why", "203.0.113.0/24"),
        ("198.51.100.9", "31d", "why", "15 minutes"),
        ("198.51.100.9", "", "why", "15 minutes"),
        ("198.51.100.9", "0m", "why", "15 minutes"),
        ("198.51.100.9", "1d", " ", "--reason"),
    ):
        told = site.ostiary("measure", "block", network, "--for", length, "--reason", reason)
        assert (told.code, hint in told.err) == (2, True), told
    assert site.ask("measure.list", everything=True) == before


@pytest.mark.parametrize(("length", "seconds"), [("90m", 5400), ("12h", 43_200), ("2 days", 172_800), ("1hour", 3600)])
def test_how_long_it_is_blocked_is_written_shortly_or_as_in_the_policy(site, length, seconds):
    told = site.ask("measure.block", network="2001:db8:7::/64", length=length, reason="why")
    (listed,) = [one for one in site.ask("measure.list") if one["id"] == told["measure"]]
    made, expires = (datetime.fromisoformat(listed[name]) for name in ("made", "expires"))
    site.ask("measure.undo", measure=told["measure"])
    assert (expires - made).total_seconds() == seconds


def test_who_blocks_or_undoes_is_told_what_else_blocks_it(site):
    def block(network):
        return site.ostiary("measure", "block", network, "--for", "1d", "--reason", "why", "--json").json

    one = block("203.0.113.128/25")
    two = site.ostiary("measure", "block", "203.0.113.192/26", "--for", "2d", "--reason", "why").out
    still = f"203.0.113.128/25 is blocked by {one['measure']} until {one['expires']}: `"
    assert (one["warnings"], f"\nnote: {still}" in two) == ([], True)
    (other,) = [found["id"] for found in site.ask("measure.list") if found["target"] == "203.0.113.192/26"]
    undone = site.ostiary("measure", "undo", other).out
    assert undone.startswith(f"{other} is undone.\nnote: {still}")
    assert f"measure undo {one['measure']}" in undone
    assert site.ostiary("measure", "undo", one["measure"]).out == f"{one['measure']} is undone.\n"


def test_a_length_that_is_none_is_shown_as_it_was_typed(site):
    told = site.ostiary("measure", "block", "198.51.100.9", "--for", "31d", "--reason", "why").err
    assert "'31d' is no time up to 30 days" in told
    assert "what to do: write it like 15 minutes" in told


@pytest.mark.standard("F4")
def test_a_block_holds_however_a_proxy_in_front_spells_the_address(site, blocked):
    """`::ffff:a.b.c.d` is what a proxy that listens for IPv4 and IPv6 at once sees."""
    assert look(site, f"::ffff:{blocked}").reason == "address-blocked"
    neighbour = next(addresses)
    assert guess(site, f"::ffff:{neighbour}") == [401] * 6
    until(lambda: look(site, neighbour).reason == "address-blocked")
    assert look(site, f"::ffff:{neighbour}").reason == "address-blocked"
    (measure,) = measures(site, neighbour)
    site.ask("measure.undo", measure=measure["id"])
    for alert in alerts(site, neighbour):
        site.ask("alert.resolve", alert=alert["id"])


def test_a_block_ends_by_itself(site, blocked):
    (measure,) = measures(site, blocked)
    with opened(site.home) as on, on.store.begin() as connection:  # as if its minutes were over
        connection.execute(update(MEASURE).where(MEASURE.c.id == measure["id"]).values(expires_at_us=1))
    until(lambda: look(site, blocked).status == 200)
    assert measures(site, blocked) == []


@pytest.mark.standard("F4")
def test_a_measure_is_listed_undone_and_recorded(site, blocked):
    (measure,) = measures(site, blocked)
    listed = site.ostiary("measure", "list")
    assert f"{blocked}/32" in listed.out
    assert site.ostiary("measure", "undo", measure["id"]).code == 0
    until(lambda: look(site, blocked).status == 200)
    assert measures(site, blocked) == []
    assert measures(site, blocked, everything=True)[0]["undone_by"].startswith("uid:")
    entry = site.ask("audit.list", action="measure.undo", limit=1)[0]
    assert (entry["object"], entry["before"]) == (measure["id"], {"target": f"{blocked}/32"})
    again = site.ostiary("measure", "undo", measure["id"])
    assert (again.code, "[measure-unknown]" in again.err) == (3, True)


@pytest.mark.standard("F3")
def test_who_guesses_secrets_is_blocked_and_shown_and_who_shows_no_wrong_one_is_not(site):
    site.token("visitor")
    right, wrong = (
        f"Basic {basic('visitor-client', one)}" for one in (site.secrets["visitor-client"], Secret("wrong"))
    )
    ask = b"grant_type=client_credentials"
    tries = {
        next(addresses): one
        for one in (
            ("POST", "/identity/token", ask + b"&scope=shop/nothing:fly", {"authorization": right}),
            ("POST", "/identity/token", ask + b"&resource=https://x", {"authorization": right}),
            ("POST", "/identity/token", ask, {}),
            ("POST", "/identity/token", b"", {}),
            ("GET", "/identity/userinfo", b"", {}),
            ("POST", "/identity/token", ask, {"authorization": wrong}),
        )
    }
    for address, (method, path, body, headers) in tries.items():
        for _ in range(6):
            site.once(method, path, body, x_forwarded_for=address, content_type=FORM, **headers)
    *innocent, guesser = tries
    (measure,) = until(lambda: measures(site, guesser))
    assert [address for address in innocent if measures(site, address)] == []
    assert [alert["rule"] for one in innocent for alert in alerts(site, one)] == ["calls-without-token"]
    (alert,) = alerts(site, guesser)
    assert "`ostiary event list --reason token-invalid`, or `credential-invalid`" in alert["investigate"]
    shown = site.ostiary("event", "list", "--reason", "credential-invalid").out
    assert re.search(rf"401 +credential-invalid +{re.escape(guesser)} +POST /identity/token", shown)
    site.ask("measure.undo", measure=measure["id"])
    for one in tries:
        for alert in alerts(site, one):
            site.ask("alert.resolve", alert=alert["id"])


@pytest.mark.standard("F3")
def test_an_alert_is_listed_acknowledged_and_resolved(site, blocked):
    (alert,) = alerts(site, blocked)
    assert (alert["rule"], alert["state"], alert["severity"]) == ("authentication-failures", "firing", "high")
    decision = alert["evidence"]["decisions"][0]
    assert site.ask("explain", decision=decision)["event"]["reason"] == "token-invalid"
    status = site.ostiary("status")
    assert status.code == 1
    assert re.search(r"NOT OK  watch +\d+ alerts? open \(see `.*ostiary alert list --home .*`\)", status.out)
    assert "or `credential-invalid`" in site.ostiary("alert", "show", alert["id"]).out
    assert alert["id"] in site.ostiary("alert", "list").out
    assert site.ostiary("alert", "ack", alert["id"], "--note", "asked them").code == 0
    assert alerts(site, blocked)[0]["state"] == "acknowledged"
    assert site.ostiary("alert", "resolve", alert["id"], "--note", "a test").code == 0
    assert alerts(site, blocked) == []
    resolved = alerts(site, blocked, everything=True)[0]
    assert (resolved["state"], resolved["note"]) == ("resolved", "a test")
    assert site.ostiary("alert", "ack", alert["id"]).code == 3


@pytest.mark.standard("F5")
def test_an_alert_shows_who_what_when_the_events_behind_it_and_the_next_commands(site, blocked):
    (alert,), (measure,) = alerts(site, blocked), measures(site, blocked)
    shown = site.ostiary("alert", "show", alert["id"])
    assert shown.code == 0
    plain = re.sub(r"/[^ `]*/ostiary(?= )", "ostiary", shown.out.replace(f" --home {site.home.root}", ""))
    for told in (f"address:{blocked}", alert["what"], alert["why"], alert["first"], alert["investigate"]):
        assert told in plain
    decisions = alert["evidence"]["decisions"]
    assert [one for one in decisions if "401 token-invalid, " not in shown.out or f"[{one}]" not in shown.out] == []
    commands = [line.partition("ostiary ")[2].partition(" --home")[0] for line in shown.out.splitlines()[-4:]]
    assert commands[0] == f"explain {decisions[-1]}"
    assert commands[1:] == [f"measure undo {measure['id']}", f"alert ack {alert['id']}", f"alert resolve {alert['id']}"]
    for command in commands:
        assert site.ostiary(*command.split()).code == 0


@pytest.mark.standard("F2")
@pytest.mark.standard("F3")
def test_the_webhook_is_told_of_an_alert_and_of_its_end(site, blocked):
    def told(state):
        bodies = [json.loads(seen["body"]) for seen in site.hooks.seen]
        return [one for one in bodies if one.get("key") == f"address:{blocked}" and one["state"] == state]

    (fired,) = until(lambda: told("firing"))
    assert fired["rule"] == "authentication-failures"
    assert fired["investigate"]
    site.ask("alert.resolve", alert=fired["alert"])
    assert until(lambda: told("resolved"))


def test_our_own_machine_is_alerted_about_and_never_blocked(site):
    assert [site.once("GET", "/shop/stock", token=FORGED).status for _ in range(6)] == [401] * 6
    found = until(lambda: alerts(site, "127.0.0.1"))  # of other tests too, which all call from here
    assert measures(site, "127.0.0.1", everything=True) == []
    for alert in found:
        site.ask("alert.resolve", alert=alert["id"])


def test_an_address_that_a_caller_makes_up_behind_the_proxy_is_not_believed(site):
    """Of X-Forwarded-For the last entry counts: the one that the trusted proxy wrote."""
    answer = site.once("GET", "/shop/stock", x_forwarded_for=f"198.51.100.7, {next(addresses)}")
    assert site.ask("explain", decision=answer.decision)["event"]["source"].startswith("203.0.113.")


@pytest.mark.standard("E12")
def test_figures_for_prometheus_are_on_loopback(site):
    assert look(site, next(addresses)).status == 200
    port = int(re.search(r"metrics_port = (\d+)", site.home.settings.read_text())[1])

    def figures():
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    counted = 'ostiary_decisions_total{reason="allowed",system="shop",verb="read"}'
    in_force = f'ostiary_policy_revision{{revision="{site.revision}"}} 1.0'  # looked at now and then
    text = until(lambda: (found := figures()) and counted in found and in_force in found and found)
    assert 'http_request_method="GET",http_response_status_code="200"' in text
    table = Path(f"/proc/{site.children()['control']}/net/tcp").read_text().splitlines()
    listening = [line.split()[1] for line in table if line.split()[3] == "0A"]
    assert f"0100007F:{port:04X}" in listening
    assert f"00000000:{port:04X}" not in listening


@pytest.mark.standard("G1")
def test_one_policy_says_how_to_sign_in_what_is_allowed_how_often_what_is_answered_and_what_happens_to_who_guesses(
    site,
):
    spared, guesser = "198.51.100.7", next(addresses)
    site.apply(
        site.policy(
            ("never-open: {networks: [198.51.100.0/24]}", "never-open: {assurance: mfa}"),
            ("limits:", f"response: {{guesses: 2/minute, block: 1 hour, spare: {spared}}}\n\nlimits:"),
            ("body: 1 MB}", "body: 1 MB}\n  visitor: {requests: 3/day}"),
        )
    )
    refused = site.once("GET", "/shop/invoices", token=site.token("elsewhere"))  # a machine has one factor
    assert (refused.status, refused.reason) == (403, "context")
    assert refused.headers["content-type"] == "application/problem+json"  # RFC 9457, with what would be allowed
    assert site.once("GET", "/shop/invoices", token=site.token("clerk")).reason == "role"
    caller = site.caller(site.client("of-few-calls", "visitor"))
    often = [caller.send("GET", "/shop/stock").reason for _ in range(5)]
    assert often == [""] * 3 + ["rate-limited"] * 2
    for address in (spared, guesser):
        assert guess(site, address, times=3) == [401] * 3
    until(lambda: look(site, guesser).reason == "address-blocked")
    (measure,) = measures(site, guesser)
    made, expires = (datetime.fromisoformat(measure[name]) for name in ("made", "expires"))
    assert expires - made == timedelta(hours=1)
    until(lambda: alerts(site, spared))
    assert measures(site, spared) == []
    site.ask("measure.undo", measure=measure["id"])


@pytest.mark.standard("B8")
def test_what_a_caller_does_as_a_rule_is_tracked_and_what_is_unlike_it_is_shown(site, folder):
    """Real lines of the gate; those of earlier weeks are these, with another date."""
    name = "of-habit"
    token = site.client(name, "clerk")
    reads = site.once("GET", "/shop/stock", token=token).decision
    before = [line for line in until(lambda: lines_about(site, reads)) if line]
    writes = site.once("POST", "/shop/orders", b'{"lines": []}', token=token).decision
    lately = until(lambda: lines_about(site, writes))
    home = Home(root=folder / "home")
    home.create()
    home.settings.touch()
    today = datetime.now(UTC).date()
    earlier = [
        line.replace(str(today).encode(), str(today - timedelta(weeks=weeks)).encode())
        for weeks in (3, 2, 1)
        for line in before
    ]
    home.access_log.write_bytes(b"".join([*earlier, *before, *lately]))
    home.guard_log.write_bytes(b"".join(lines_about(site, writes, site.home.guard_log)))  # it was asked about the body
    told = evidence.usage(home)
    assert [(one["principal"], one["days"]) for one in told["usual"]] == [(f"client:{name}", 3)]
    (unusual,) = told["unusual"]
    assert (unusual["what"], unusual["value"], unusual["decision"]) == ("operation", "shop/order:write", writes)
    new = site.ostiary("event", "usage").out
    assert re.search(rf"client:{name} +caller", new)


def lines_about(site, decision, log=None):
    lines = (log or site.home.access_log).read_bytes().splitlines(keepends=True)
    return [line for line in lines if decision.encode() in line]
