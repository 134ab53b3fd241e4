"""A draft replayed on recorded traffic, or asked beside the policy in force: applying it proves what was foretold."""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from running import RUNNING, until

pytestmark = RUNNING
CALLS = (
    ("clerk", "GET", "/shop/stock", b""),
    ("clerk", "GET", "/shop/orders", b""),
    ("clerk", "GET", "/shop/orders?limit=7", b""),
    ("clerk", "POST", "/shop/orders", b'{"lines": []}'),
    ("clerk", "GET", "/shop/invoices", b""),
    ("clerk", "DELETE", "/shop/orders/1", b""),
    ("visitor", "GET", "/shop/stock", b""),
    ("visitor", "GET", "/shop/orders", b""),
    ("elsewhere", "GET", "/shop/invoices", b""),
    ("elsewhere", "GET", "/shop/stock", b""),
    ("narrow", "GET", "/shop/stock", b""),
    ("narrow", "GET", "/shop/orders", b""),
    ("narrow", "GET", "/shop/invoices", b""),
)
CHANGES = (
    ('"order: read, write", "stock: read"', '"order: read", "invoice: read"'),  # of the clerk
    (
        'visitor: {level: user, of: sales, may: ["stock: read"]}',
        'visitor: {level: user, of: sales, may: ["stock: read"], when: never-open}',
    ),
    ("198.51.100.0/24", "198.51.100.0/24, 192.0.2.0/24"),
)


@pytest.fixture
def tokens(site):
    made = {role: site.token(role) for role in ("clerk", "visitor", "elsewhere")}
    name = f"narrow-{datetime.now(UTC):%H%M%S%f}"
    return made | {"narrow": site.client(name, "clerk", scopes=["shop/stock:read", "shop/order:read"])}


def sent(site, tokens):
    """Every call once: decision -> the call and its reason."""
    found = {}
    for who, method, path, body in CALLS:
        answer = site.once(method, path, body, token=tokens[who])
        found[answer.decision] = ((who, method, path), answer.headers.get("ostiary-reason", "allowed"))
    return found


def replayed(site, since, text, recorded):
    """What `policy replay` says, once all that was recorded is in the log."""
    file = site.root / "replayed.yaml"
    file.write_text(text)
    began = since.isoformat(timespec="seconds").replace("+00:00", "Z")

    def told():
        done = site.ostiary("policy", "replay", str(file), "--since", began, "--json")
        assert done.code == 0, done
        return done.json["decisions"] >= recorded and done.json

    return until(told)


def test_what_replay_foretells_is_what_happens(site, tokens):
    draft = site.policy(*CHANGES)
    since = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    until(lambda: datetime.now(UTC) > since)
    before = sent(site, tokens)
    told = replayed(site, since, draft, len(before))
    site.apply(draft)
    until(lambda: site.once("GET", "/shop/invoices", token=tokens["clerk"]).status == 200)
    after = dict(sent(site, tokens).values())
    foretold = Counter()
    for change in told["changes"]:
        call, reason = before[change["decision"]]
        assert reason == change["was"]
        foretold[change["was"], change["would"]] += change["times"]
        assert after[call] == change["would"]
    really = Counter(
        (was, after[call]) for call, was in before.values() if (was == "allowed") != (after[call] == "allowed")
    )
    assert foretold == really
    assert really == {("allowed", "role"): 3, ("role", "allowed"): 1, ("allowed", "context"): 1}


@pytest.mark.standard("G8")
def test_a_draft_decides_nothing_and_foretells_what_it_would(site, tokens):
    before = sent(site, tokens)
    file = site.root / "beside.yaml"
    file.write_text(site.policy(*CHANGES))
    begun = site.ostiary("policy", "shadow", str(file), "--json")
    assert begun.code == 0, begun
    assert "a draft is asked beside it since" in site.ostiary("status").out
    entry = site.ask("audit.list", action="policy.shadow", limit=1)[0]
    assert entry["after"] == {"draft": begun.json["draft"]}
    beside = sent(site, tokens)
    assert [one for _, one in beside.values()] == [one for _, one in before.values()]
    seen = until(lambda: (told := shown(site))["decisions"] >= len(beside) and told)
    site.apply(file.read_text())
    after = dict(sent(site, tokens).values())
    assert seen["changes"]
    for change in seen["changes"]:
        call, reason = beside[change["decision"]]
        assert (reason, after[call]) == (change["was"], change["would"])
    turned = [call for call, reason in beside.values() if (after[call] == "allowed") != (reason == "allowed")]
    assert sum(change["times"] for change in seen["changes"]) == len(turned)


def test_a_draft_is_ended_by_hand_and_says_what_nobody_will_see_of_it(site):
    file = site.root / "ended.yaml"
    file.write_text(site.policy(*CHANGES, ("at: localhost/shop", "at: localhost/moved")))
    begun = site.ostiary("policy", "shadow", str(file))
    assert begun.code == 0
    assert re.search(r"note: no decision will tell of: .*localhost/moved", begun.out)
    assert site.ostiary("policy", "shadow", "--end").code == 0
    assert "no draft is asked" in site.ostiary("policy", "shadow").err
    noted = site.ask("audit.list", limit=1)
    told = site.ostiary("policy", "shadow", "--end")
    assert (told.code, "no draft is asked" in told.err, site.ask("audit.list", limit=1)) == (2, True, noted)


def shown(site):
    told = site.ostiary("policy", "shadow", "--json")
    assert told.code == 0, told
    return told.json
