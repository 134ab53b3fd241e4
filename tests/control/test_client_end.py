"""A machine's access belongs to somebody and ends: by the clock alone, or when the person who answers for it goes."""

import re
import time
from datetime import datetime
from itertools import count

import pytest
from sqlalchemy import update
from tools.caller import machine_token

from ostiary.control.installation import opened
from ostiary.foundation.errors import CallerFault, OperatorFault
from ostiary.store.tables import CLIENT
from running import RUNNING, until

pytestmark = RUNNING
PASSWORD = "a long one, of many words"
DAY_S = 86_400
number = count()


@pytest.fixture
def name():
    return f"ends{next(number)}"


def shown(site, name):
    return site.ask("principal.show", principal=f"client:{name}")


def ends_at(site, name, at_s):
    """As if it had been made long ago."""
    with opened(site.home) as on, on.store.begin() as connection:
        connection.execute(update(CLIENT).where(CLIENT.c.principal == f"client:{name}").values(until_s=at_s))


def asks(site, name):
    caller = site.caller()
    try:
        return machine_token(caller, name, site.secrets[name])
    finally:
        caller.close()


def part(site):
    return next(one for one in site.ask("status")["parts"] if one["name"] == "clients")


def mended(site, name):
    site.ask("principal.remove", principal=f"client:{name}")
    assert f"client:{name} " not in part(site)["text"]
    for one in site.ask("alert.list"):
        if one["key"] == f"client:{name}":
            site.ask("alert.resolve", alert=one["id"])


def test_a_client_lasts_a_year_unless_said_otherwise_and_three_at_most(site, name):
    for days, given in ((365, {}), (1, {"days": 1}), (1_095, {"days": 1_095})):
        site.client(f"{name}-{days}", "visitor", **given)
        at = datetime.fromisoformat(shown(site, f"{name}-{days}")["until"])
        assert abs(at.timestamp() - time.time() - days * DAY_S) < 10
    for days in (0, -1, 1_096):
        with pytest.raises(CallerFault, match="lasts for 1 to 1095 days"):
            site.client(f"{name}-odd", "visitor", days=days)
        with pytest.raises(CallerFault, match="lasts for 1 to 1095 days"):
            site.ask("client.change", client_id=f"{name}-1", days=days)
    mended(site, f"{name}-1")


def test_a_secret_is_long_and_found_by_scanners(site, name):
    site.client(name, "visitor")
    assert re.fullmatch(r"ostiary_secret_[\w-]{43}", site.secrets[name].reveal())  # 256 bits in base64


def test_gate_and_token_endpoint_refuse_it_when_the_clock_passes(site, name):
    """Nothing is told to the gate: the token was made to end with the client."""
    site.client(name, "visitor")
    end = int(time.time()) + 5
    ends_at(site, name, end)
    caller = site.caller(site.fresh(name))
    passed = refused = 0.0
    while not refused:
        answer = caller.send("GET", "/shop/stock")
        passed, refused = (time.time(), 0.0) if answer.status == 200 else (passed, time.time())
    assert answer.reason == "token-invalid"
    assert end - 0.1 <= passed <= end + 0.1
    assert refused <= end + 0.1
    answer = asks(site, name)
    assert (answer.status, answer.json()["error"]) == (401, "invalid_client")
    assert "has ended" in site.ask("explain", decision=answer.decision)["text"]
    site.ask("client.change", client_id=name, days=30)
    caller.token = site.fresh(name)
    assert caller.send("GET", "/shop/stock").status == 200


def test_an_earlier_end_takes_tokens_back_and_a_later_one_does_not(site, name):
    caller = site.caller(site.client(name, "visitor"))
    site.ask("client.change", client_id=name, days=700)
    assert caller.send("GET", "/shop/stock").status == 200
    site.ask("client.change", client_id=name, days=300)
    until(lambda: caller.send("GET", "/shop/stock").reason == "token-revoked", patience_s=5)
    assert site.ask("audit.list", action="client.change", limit=1)[0]["after"].keys() == {"until"}


def test_who_ends_soon_is_told_by_status_and_once_by_an_alert(site, name):
    site.client(name, "visitor")
    assert part(site)["ok"]
    ends_at(site, name, int(time.time()) + 13 * DAY_S)
    told = part(site)
    assert (told["ok"], f"client:{name} ends at " in told["text"]) == (False, True)
    assert f"`ostiary client change {name} --days 365`" in told["text"]
    (alert,) = until(lambda: [one for one in site.ask("alert.list") if one["key"] == f"client:{name}"], patience_s=90)
    assert (alert["rule"], alert["severity"]) == ("client-ends", "warning")
    assert f"`ostiary client change {name} --days 365`" in alert["investigate"]
    mended(site, name)


def test_a_client_ends_with_the_person_who_answers_for_it_and_is_handed_over(site, name):
    for who in ("owner", "heir"):
        site.ask("user.add", login=f"{name}-{who}", password=PASSWORD)
    caller = site.caller(site.client(name, "visitor", person=f"user:{name}-owner"))
    other = site.caller(site.client(f"{name}-other", "visitor", person=f"user:{name}-heir"))
    assert caller.send("GET", "/shop/stock").status == 200
    site.ask("principal.disable", principal=f"user:{name}-owner")
    until(lambda: caller.send("GET", "/shop/stock").reason == "token-revoked", patience_s=5)
    assert asks(site, name).status == 401
    assert other.send("GET", "/shop/stock").status == 200
    for act in ("enable", "disable"):  # each says what stays off
        first, second = site.ostiary("user", act, f"{name}-owner").out.splitlines()
        assert first == f"user:{name}-owner is {act}d."
        assert re.fullmatch(rf"client:{name} is disabled: `\S*ostiary client enable {name} --home \S+`", second)
    told = part(site)
    assert (told["ok"], f"client:{name} is user:{name}-owner's, who is disabled" in told["text"]) == (False, True)
    site.ask("client.change", client_id=name, person=f"user:{name}-heir")
    site.ask("principal.enable", principal=f"client:{name}")
    assert part(site)["ok"]
    caller.token = site.fresh(name)
    assert caller.send("GET", "/shop/stock").status == 200
    site.ask("principal.remove", principal=f"user:{name}-owner")  # nothing is his any more


@pytest.mark.parametrize("api_key", [False, True])
def test_status_notes_whoever_belongs_to_nobody_until_somebody_answers_for_it(site, name, api_key):
    first = f"0-{name}"  # of many, the first few by name are told
    site.ask("client.add", client_id=first, roles=["visitor"], **({"auth": "api_key"} if api_key else {}))
    site.ask("user.add", login=name, password=PASSWORD)
    told = part(site)
    gives = f"`ostiary client change {first} --person user:WHO`"
    assert (told["ok"], told["note"], first in told["text"], gives in told["text"]) == (True, True, True, True)
    assert re.search(rf"clients +nobody answers for {first}\b", site.ostiary("status").out)
    assert site.ostiary("client", "change", first, "--person", f"user:{name}").code == 0
    assert first not in part(site)["text"]
    site.client(f"{first}-off", "visitor")
    site.ask("principal.disable", principal=f"client:{first}-off")
    assert f"{first}-off" not in part(site)["text"]


def test_where_the_policy_says_so_it_stays_and_status_shows_it(site, name):
    site.apply(site.policy(("policy: test", "policy: test\nwhen-owner-leaves: stay")))
    site.ask("user.add", login=name, password=PASSWORD)
    caller = site.caller(site.client(name, "visitor", person=f"user:{name}"))
    site.ask("principal.disable", principal=f"user:{name}")
    assert caller.send("GET", "/shop/stock").status == 200
    assert site.fresh(name)
    assert not part(site)["ok"]
    mended(site, name)


def test_it_is_handed_over_to_nobody_who_may_not_hold_its_roles(site, name):
    apart = 'apart: [{name: two hands, permissions: ["order: write", "stock: read"]}]\n\nlimits:'
    site.apply(site.policy(('"order: read, write", "stock: read"', '"order: read, write"'), ("limits:", apart)))
    site.ask("user.add", login=name, password=PASSWORD, roles=["clerk"])
    site.client(name, "visitor")
    with pytest.raises(OperatorFault, match="kept apart"):
        site.ask("client.change", client_id=name, person=f"user:{name}")
    with pytest.raises(OperatorFault, match="there is no user:nobody"):
        site.ask("client.change", client_id=name, person="user:nobody")
