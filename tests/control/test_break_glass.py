"""A role for a time: at the gate at once, over by itself, seen by everybody, and no way round what is kept apart."""

import os
import time
from contextlib import suppress
from itertools import count

import pytest
from sqlalchemy import update

from ostiary.control.installation import open_installation, opened
from ostiary.foundation.errors import CallerFault, OperatorFault
from ostiary.store.tables import PROPOSAL
from running import AS_ROOT, RUNNING, SECOND, until

pytestmark = RUNNING
ORDERS, STOCK = "/shop/orders", "/shop/stock"
number = count()


@pytest.fixture
def name(site):
    """A client that may read the stock and no orders; whatever it was given ends with the test."""
    made = f"e{next(number)}"
    site.client(made, "visitor")
    yield made
    for one in emergencies(site, "begun", "open"):
        with suppress(CallerFault):  # whose time is over may end by itself meanwhile
            site.ask("break-glass.end", proposal=one["id"])


def start(site, name, role="clerk", minutes=5, reason="the shop is down"):
    return site.ask("break-glass.start", principal=f"client:{name}", role=role, minutes=minutes, reason=reason)


def emergencies(site, *states):
    return [one for one in site.ostiary("break-glass", "list", "--json").json if one["state"] in states]


def watch_part(site):
    return next(part for part in site.ask("status")["parts"] if part["name"] == "watch")


def last(site, action):
    return site.ask("audit.list", action=action, limit=1)[0]


def reads(site, token):
    return site.once("GET", ORDERS, token=token).status == 200


def age(site, identity):
    """As if it had been asked for more than an hour ago."""
    with opened(site.home) as on, on.store.begin() as connection:
        hour = update(PROPOSAL).where(PROPOSAL.c.id == identity).values(at_us=PROPOSAL.c.at_us - 3_601_000_000)
        connection.execute(hour)


def shorten(site, identity, seconds):
    """As if it had been for so long only."""
    on = open_installation(site.home)
    try:
        with on.store.begin() as connection:
            ends = int(time.time()) + seconds
            connection.execute(update(PROPOSAL).where(PROPOSAL.c.id == identity).values(until_s=ends))
    finally:
        on.store.close()
    return ends


def test_it_is_in_force_at_once_and_tokens_of_before_are_renewed(site, name):
    caller = site.caller(site.fresh(name))
    assert caller.send("GET", ORDERS).reason == "role"
    start(site, name)
    assert caller.send("GET", ORDERS).reason == "token-revoked"
    token = site.fresh(name)
    assert reads(site, token)
    assert site.once("GET", STOCK, token=token).status == 200
    assert site.once("GET", "/shop/invoices", token=token).reason == "role"


def test_who_can_and_what_can_tell_it_with_its_end(site, name):
    def holders():
        ways = site.ostiary("policy", "who-can", "shop/order:read", "--json").json
        return [
            one
            for way in ways
            if way["role"] == "clerk"
            for one in way["holders"]
            if one.split()[0] == f"client:{name}"
        ]

    assert holders() == []
    made = start(site, name)
    (end,) = [one["text"].rpartition(" until ")[2] for one in emergencies(site, "begun") if one["id"] == made["id"]]
    assert holders() == [f"client:{name} until {end}"]
    told = {way["role"]: way["until"] for way in site.ostiary("policy", "what-can", f"client:{name}", "--json").json}
    assert told == {"visitor": "", "clerk": end}
    assert f"at any time, until {end}" in site.ostiary("policy", "what-can", f"client:{name}").out
    shorten(site, made["id"], -1)
    assert holders() == []


def test_no_token_outlives_it_though_control_is_dead(site, name):
    made = start(site, name)
    ends = shorten(site, made["id"], 4)
    token = site.fresh(name)
    with site.instead_of("control"):
        caller = site.caller(token)
        assert caller.send("GET", ORDERS).status == 200
        refused = until(lambda: caller.send("GET", ORDERS).reason, patience_s=10)
        assert (refused, time.time() >= ends) == ("token-invalid", True)
        after = site.fresh(name)
        assert site.once("GET", ORDERS, token=after).reason == "role"
        assert site.once("GET", STOCK, token=after).status == 200
    until(lambda: emergencies(site, "ended") and not emergencies(site, "begun"))
    entry = last(site, "break-glass.end")
    assert (entry["object"], entry["actor"], entry["after"]["proposal"]) == (f"client:{name}", "ostiary", made["id"])


def test_taken_back_before_its_time_it_is_over_at_once_on_an_open_connection(site, name):
    made = start(site, name)
    caller = site.caller(site.fresh(name))
    assert caller.send("GET", ORDERS).status == 200
    site.ask("break-glass.end", proposal=made["id"])
    assert caller.send("GET", ORDERS).reason == "token-revoked"
    assert not reads(site, site.fresh(name))


@pytest.mark.parametrize(
    "operation, facts",
    [
        ("principal.roles", {"roles": ["visitor"]}),
        ("token.revoke", {}),
        ("principal.disable", {}),
        ("principal.remove", {}),
    ],
)
def test_what_takes_tokens_away_takes_it_too(site, name, operation, facts):
    start(site, name)
    token, principal = site.fresh(name), f"client:{name}"
    site.ask(operation, principal=principal, **facts)
    assert site.once("GET", ORDERS, token=token).reason == "token-revoked"
    if operation == "principal.disable":
        site.ask("principal.enable", principal=principal)
    if operation == "principal.remove":
        site.client(name, "visitor")
    assert not reads(site, site.fresh(name))
    until(lambda: not emergencies(site, "begun"))


def test_it_is_told_at_once_and_stays_in_the_status_while_it_lasts(site, name):
    made = start(site, name, reason="ask Anna")
    until(lambda: any(name in one["body"] and "ask Anna" in one["body"] for one in site.hooks.seen))
    (alert,) = [one for one in site.ask("alert.list") if one["rule"] == "break-glass"]
    assert (alert["key"], alert["severity"], alert["evidence"]["role"]) == (f"client:{name}", "critical", "clerk")
    site.ask("alert.resolve", alert=alert["id"])
    part = watch_part(site)
    assert not part["ok"]
    assert f"client:{name} has role clerk until" in part["text"]
    assert "ask Anna" in part["text"]
    site.ask("break-glass.end", proposal=made["id"])
    assert "has role" not in watch_part(site)["text"]


def test_its_alert_ends_with_it(site, name):
    made = start(site, name)
    site.ask("break-glass.end", proposal=made["id"])
    alerts = [one for one in site.ask("alert.list", everything=True) if one["key"] == f"client:{name}"]
    assert [(one["rule"], one["state"]) for one in alerts] == [("break-glass", "resolved")]


def test_who_when_why_and_its_end_stand_in_the_audit_log(site, name):
    made = start(site, name, minutes=7)
    site.ask("break-glass.end", proposal=made["id"])
    for action in ("propose", "begin", "end"):
        entry = last(site, f"break-glass.{action}")
        assert (entry["object"], entry["actor"]) == (f"client:{name}", f"uid:{os.getuid()}")
        until = entry["after"].pop("until", "")
        assert until == ("" if action == "propose" else made["text"].rpartition(" ")[2])
        about = {"proposal": made["id"], "principal": f"client:{name}", "role": "clerk", "minutes": 7}
        assert entry["after"] == about
        assert entry["reason"] == "the shop is down"


def test_what_is_done_under_it_is_marked_in_the_events(site, name):
    before = site.once("GET", STOCK, token=site.fresh(name)).decision
    made = start(site, name)
    answers = [site.once(*one, token=site.fresh(name)) for one in (("GET", ORDERS), ("DELETE", "/shop/orders/1"))]
    site.ask("break-glass.end", proposal=made["id"])
    after = site.once("GET", STOCK, token=site.fresh(name)).decision

    def listed(*options):
        rows = site.ostiary("event", "list", "--principal", f"client:{name}", *options, "--json").json
        return {row["decision"]: row["break_glass"] for row in rows if row["system"] == "shop"}

    until(lambda: after in listed())
    marked = dict.fromkeys((one.decision for one in answers), True)
    assert listed("--break-glass") == marked
    assert listed() == marked | {before: False, after: False}
    assert f"client:{name} (break-glass)" in site.ostiary("event", "list", "--break-glass").out
    told = site.ask("explain", decision=answers[1].decision)
    assert f"break-glass:{made['id']}" in told["text"]
    given = f"break-glass: client:{name} has role {made['role']} until "
    for one in answers:
        text = site.ask("explain", decision=one.decision)["text"]
        assert given in text
        assert f", given by {made['who']}: {made['why']}\n" in text
    assert given not in site.ask("explain", decision=after)["text"]


@pytest.mark.parametrize(
    "facts, problem",
    [
        ({"minutes": 0}, "0 is no time from 1 to 240"),
        ({"minutes": 241}, "241 is no time"),
        ({"reason": " "}, "reason"),
        ({"role": "nobody"}, "has no role nobody"),
        ({"role": "visitor"}, "holds visitor already"),
        ({"principal": "client:nobody"}, "there is no client:nobody"),
        ({"principal": "user:nobody"}, "there is no user:nobody"),
    ],
)
def test_what_is_no_emergency_is_refused(site, name, facts, problem):
    asked = {"principal": f"client:{name}", "role": "clerk", "minutes": 5, "reason": "why"} | facts
    with pytest.raises((OperatorFault, CallerFault), match=problem):
        site.ask("break-glass.start", **asked)
    assert emergencies(site, "begun", "open") == []


def test_nobody_has_two_of_them_at_a_time_nor_while_disabled(site, name):
    start(site, name)
    with pytest.raises(OperatorFault, match="another role for a time"):
        start(site, name, "elsewhere")
    site.ask("principal.disable", principal=f"client:{name}")
    until(lambda: not emergencies(site, "begun"))
    with pytest.raises(OperatorFault, match="is disabled"):
        start(site, name)


def test_duties_kept_apart_stay_apart_for_the_person_whoever_of_hers_calls(site, name):
    rule = 'apart:\n  - {name: two, permissions: ["order: write", "invoice: read"]}\n\nlimits:'
    site.apply(site.policy(("limits:", rule)))
    site.ask("user.add", login=f"{name}-anna", password="a long one, of many words")
    held = {"person": f"user:{name}-anna"}
    site.client(f"{name}-bills", "elsewhere", **held)
    site.client(f"{name}-other", "visitor", **held)
    with pytest.raises(OperatorFault, match="kept apart"):
        start(site, f"{name}-other")
    site.ask("principal.roles", principal=f"client:{name}-bills", roles=[])
    start(site, f"{name}-other")
    with pytest.raises(OperatorFault, match="kept apart"):
        site.ask("principal.roles", principal=f"client:{name}-bills", roles=["elsewhere"])


def test_no_policy_comes_into_force_that_keeps_apart_what_somebody_holds_for_a_time(site, name):
    site.ask("principal.roles", principal=f"client:{name}", roles=["elsewhere"])
    start(site, name)
    rule = 'apart:\n  - {name: two, permissions: ["order: write", "invoice: read"]}\n\nlimits:'
    with pytest.raises(OperatorFault, match=f"client:{name} holds both"):
        site.apply(site.policy(("limits:", rule)))


@pytest.fixture
def asking(site, name):
    """Which asks for a second person: `name` has its role from before."""
    site.apply(site.policy(("limits:", "approvals: {break-glass: 1}\n\nlimits:")))
    return site


@AS_ROOT
def test_where_the_policy_says_so_it_begins_with_a_second_persons_yes(asking, name):
    made = start(asking, name)
    assert (made["missing"], made["state"]) == (1, "open")
    assert not reads(asking, asking.fresh(name))
    (waits,) = (part["text"] for part in asking.ask("status")["parts"] if part["name"] == "waits")
    assert waits == "for somebody's yes: 1 in `ostiary break-glass list`"
    with pytest.raises(OperatorFault, match="somebody else"):
        asking.ask("break-glass.approve", proposal=made["id"])
    assert not reads(asking, asking.fresh(name))
    assert asking.ask_as(SECOND, "break-glass.approve", proposal=made["id"])["missing"] == 0
    assert reads(asking, asking.fresh(name))
    assert last(asking, "break-glass.approve")["actor"] == f"uid:{SECOND}"
    (one,) = emergencies(asking, "begun")
    assert one["approvals"] == [f"uid:{SECOND}"]
    with pytest.raises(CallerFault, match="no break-glass proposal"):
        asking.ask_as(SECOND, "break-glass.approve", proposal=made["id"])


@AS_ROOT
def test_what_nobody_approved_for_an_hour_is_no_emergency_any_more(asking, name):
    said = ""
    while said != "proposal-old":  # else it is over by itself already, for which control looks every five seconds
        made = start(asking, name)
        age(asking, made["id"])
        with pytest.raises((OperatorFault, CallerFault), match=r"too long ago|that is open") as refused:
            asking.ask_as(SECOND, "break-glass.approve", proposal=made["id"])
        said = refused.value.code
    assert not reads(asking, asking.fresh(name))


@AS_ROOT
def test_a_proposal_of_a_policy_is_not_approved_as_an_emergency(asking, name):
    made = start(asking, name)
    with pytest.raises(CallerFault, match="no policy proposal"):
        asking.ask_as(SECOND, "policy.approve", proposal=made["id"])


@AS_ROOT
def test_an_emergency_that_did_not_begin_ends_without_a_word_about_the_one_that_did(asking, name):
    first, second = (start(asking, name, reason=why) for why in ("the first", "the second"))
    asking.ask_as(SECOND, "break-glass.approve", proposal=first["id"])
    asking.ask("break-glass.end", proposal=second["id"])
    assert f"client:{name} has role clerk" in watch_part(asking)["text"]
    firing = [one for one in asking.ask("alert.list") if one["key"] == f"client:{name}"]
    assert [one["state"] for one in firing] == ["firing"]
    assert reads(asking, asking.fresh(name))


@AS_ROOT
def test_what_nobody_approved_in_time_ends_by_itself_and_keeps_nobody_from_asking(asking, name):
    made = start(asking, name)
    age(asking, made["id"])
    until(lambda: made["id"] not in {one["id"] for one in emergencies(asking, "open")})
