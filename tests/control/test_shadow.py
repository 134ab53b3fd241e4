"""A draft is asked beside the policy in force: it decides nothing, and what it would decide is seen."""

import pytest
from tests.control.test_replay import CHANGES, sent, tokens

from running import RUNNING, until

pytestmark = RUNNING
__all__ = ["tokens"]  # the fixture


@pytest.mark.standard("G8")
def test_a_draft_decides_nothing_and_foretells_what_it_would(site, tokens):
    before = sent(site, tokens)
    file = site.root / "beside.yaml"
    file.write_text(site.policy(*CHANGES))
    begun = site.ostiary("policy", "shadow", str(file), "--json")
    assert begun.code == 0, begun
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


def test_a_draft_is_ended_by_hand(site):
    file = site.root / "ended.yaml"
    file.write_text(site.policy(*CHANGES))
    assert site.ostiary("policy", "shadow", str(file)).code == 0
    assert site.ostiary("policy", "shadow", "--end").code == 0
    assert "no draft is asked" in site.ostiary("policy", "shadow").err


def shown(site):
    told = site.ostiary("policy", "shadow", "--json")
    assert told.code == 0, told
    return told.json
