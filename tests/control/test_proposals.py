"""A change that needs a second person: nobody approves his own, and what comes into force is what was shown."""

import os
import pwd
import re
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from ostiary.control import operations
from ostiary.foundation.errors import CallerFault, OperatorFault
from ostiary.policy.document import Document
from running import RUNNING, SECOND, THIRD

pytestmark = [RUNNING, pytest.mark.skipif(os.getuid() != 0, reason="only root can act as somebody else")]
CLERK = 'may: ["order: read, write", "stock: read"]'
WIDER = 'may: ["order: read, write", "stock: read", "invoice: read"]'
INVOICES = "/shop/invoices"


def text(site, *changes, approvals=1):
    return site.policy(("limits:", f"approvals: {{policy: {approvals}}}\n\nlimits:"), *changes)


@pytest.fixture(params=[1])
def asking(site, request):
    """The site, whose policy asks for approvals of its changes."""
    site.apply(text(site, approvals=request.param))
    yield site
    for one in waiting(site):
        site.ask("policy.reject", proposal=one["number"])
    made = propose(site, site.policy())["proposal"]
    for uid in (SECOND, THIRD)[: request.param]:
        site.ask_as(uid, "policy.approve", proposal=made)
    assert (site.home.plans / "current").read_text() == site.revision


def propose(site, text, reason="because"):
    return site.ask("policy.propose", **site.document(text), reason=reason)


def waiting(site):
    rows = site.ostiary("policy", "list", "--json").json
    return [row for row in rows if row["state"] == "proposed"]


def reads_invoices(site):
    return site.once("GET", INVOICES, token=site.token("clerk")).status == 200


@pytest.mark.standard("G4")
@pytest.mark.standard("G8")
def test_a_change_comes_into_force_when_somebody_else_approves_it_and_is_kept_with_his_name(asking):
    with pytest.raises(OperatorFault, match="asks for 1 approval"):
        asking.apply(text(asking, (CLERK, WIDER)))
    made = propose(asking, text(asking, (CLERK, WIDER)), "quarter end")
    assert [one["text"].partition(" (")[0] for one in made["changes"]] == ["clerk may now shop/invoice:read"]
    assert not reads_invoices(asking)
    done = asking.ask_as(SECOND, "policy.approve", proposal=made["proposal"])
    assert (done["revision"], done["missing"]) == (made["revision"], 0)
    assert reads_invoices(asking)
    newest = asking.ostiary("policy", "list", "--limit", "1", "--json").json[0]
    assert (newest["state"], newest["who"], newest["approvals"]) == ("in force", "uid:0", [f"uid:{SECOND}"])
    (entry,) = asking.ask("audit.list", action="policy.apply", limit=1)
    assert (entry["actor"], entry["after"]["approvals"]) == ("uid:0", [f"uid:{SECOND}"])
    (entry,) = asking.ask("audit.list", action="policy.approve", limit=1)
    assert (entry["actor"], entry["after"]["revision"]) == (f"uid:{SECOND}", made["revision"])


def test_what_waits_is_in_the_status_and_says_by_whom_and_how_it_is_approved(asking):
    def waits():
        (line,) = [line for line in asking.ostiary("status").out.splitlines() if line.split()[1] == "waits"]
        return line.split(maxsplit=2)[2]

    assert waits() == "nothing waits for somebody's yes"
    wider = asking.root / "wider.yaml"
    wider.write_text(text(asking, (CLERK, WIDER)))
    told = [asking.ostiary("policy", "propose", str(wider), "--reason", "why").out.splitlines()[-1] for _ in range(2)]
    (made,) = waiting(asking)  # the same is not asked for twice
    who = f"uid:{THIRD} or uid:{SECOND} ({pwd.getpwuid(SECOND).pw_name})"
    assert told[0] == told[1]
    assert told[0].startswith(f"proposal {made['number']} waits for 1 approval, by {who}: ")
    assert re.search(f" policy approve {made['number']} --home {asking.home.root}`$", told[0])
    assert re.fullmatch(f"for somebody's yes: 1 in `.* policy list --home {asking.home.root}`", waits())


def test_what_is_shown_for_approval_draws_nothing_on_the_terminal(asking):
    """CWE-150; what a policy or a reason says is refused where it can't be seen, an OpenAPI document is not ours."""
    asks = asking.document(text(asking))
    ((name, spec),) = asks["document"]["files"].items()
    asks["document"]["files"] = {name: spec + "# \u202e nothing to see\n"}
    made = asking.ask("policy.propose", **asks, reason="because")["proposal"]
    assert f"--file {name} shows it" in asking.ostiary("policy", "show", made).out
    assert "# \ufffd nothing to see" in asking.ostiary("policy", "show", made, "--file", name).out
    assert "what to do: one of: " in asking.ostiary("policy", "show", made, "--file", "other").err


def test_a_name_that_is_none_is_not_shown_to_who_approves(asking):
    asks = asking.document(text(asking))
    asks["document"]["files"]["a\n# file policy.yaml\nroles: {}"] = "x"
    with pytest.raises(CallerFault, match="the name of a file holds what can't be seen"):
        asking.ask("policy.propose", **asks, reason="because")


def test_nobody_approves_what_he_proposed(asking):
    made = asking.ask_as(SECOND, "policy.propose", **asking.document(text(asking, (CLERK, WIDER))), reason="mine")
    with pytest.raises(OperatorFault, match="somebody else"):
        asking.ask_as(SECOND, "policy.approve", proposal=made["proposal"])
    assert not reads_invoices(asking)


@pytest.mark.parametrize("asking", [2], indirect=True)
def test_of_two_approvals_each_is_by_another_person(asking):
    made = propose(asking, text(asking, (CLERK, WIDER), approvals=2))["proposal"]
    for _ in range(2):
        assert asking.ask_as(SECOND, "policy.approve", proposal=made)["missing"] == 1
    assert not reads_invoices(asking)
    assert asking.ask_as(THIRD, "policy.approve", proposal=made)["missing"] == 0
    assert reads_invoices(asking)


def test_that_changes_need_approval_is_not_taken_away_alone(asking):
    for without in (asking.policy(), asking.policy((CLERK, WIDER))):
        with pytest.raises(OperatorFault, match="approval"):
            asking.apply(without)
    oldest = asking.ostiary("policy", "list", "--limit", "1000", "--json").json[-1]["number"]
    assert asking.ask("policy.restore", number=oldest, reason="as it was")["proposal"]
    assert [one["why"] for one in waiting(asking)] == [f"restores revision {oldest}: as it was"]


def test_what_is_in_force_may_be_applied_again_but_no_other_text_for_it(asking):
    asking.apply(text(asking))
    with pytest.raises(OperatorFault, match="approval"):
        asking.apply(text(asking) + "# nothing\n")


def test_an_approval_is_of_the_change_that_was_shown_and_not_of_another_one(asking):
    old = propose(asking, text(asking, (CLERK, WIDER)), "first")["proposal"]
    other = propose(asking, text(asking, ("600000/hour", "500000/hour")), "second")["proposal"]
    asking.ask_as(SECOND, "policy.approve", proposal=other)
    with pytest.raises(OperatorFault, match="proposed anew as ") as stale:
        asking.ask_as(SECOND, "policy.approve", proposal=old)
    (renewed,) = waiting(asking)
    assert renewed["number"] in stale.value.message
    assert (renewed["who"], renewed["why"], renewed["approvals"]) == ("uid:0", "first", [])
    assert not reads_invoices(asking)
    with pytest.raises(CallerFault, match="no policy proposal"):
        asking.ask_as(SECOND, "policy.approve", proposal=old)
    shown = asking.ostiary("policy", "show", renewed["number"]).out
    assert "# + widens limit default: 600000/hour" in shown
    assert "# + widens clerk may now shop/invoice:read" in shown
    asking.ask_as(SECOND, "policy.approve", proposal=renewed["number"])
    assert reads_invoices(asking)


def test_an_api_description_that_changed_since_comes_into_force_by_no_approval_nor_by_a_restore(asking):
    """What was shown is what is approved: nothing is read again afterwards, whoever may write in the folder."""
    before = asking.spec.read_text()
    oldest = asking.ostiary("policy", "list", "--limit", "1000", "--json").json[-1]
    other = before.replace("/invoices: {get: {tags: [Invoice]}}", "/secrets: {get: {tags: [Invoice]}}")
    assert other != before
    made = propose(asking, text(asking, (CLERK, WIDER)))["proposal"]
    asking.spec.write_text(other)
    try:
        asking.ask_as(SECOND, "policy.approve", proposal=made)
        assert reads_invoices(asking)
        restored = asking.ask("policy.restore", number=oldest["number"], reason="as it was")["proposal"]
        assert "secrets" not in asking.ostiary("policy", "show", restored).out
        made = propose(asking, text(asking))["proposal"]
        assert "GET /secrets is opened" in asking.ostiary("policy", "show", made).out
        asking.ask_as(SECOND, "policy.approve", proposal=restored)
    finally:
        asking.spec.write_text(before)
    assert (asking.home.plans / "current").read_text() == oldest["revision"]


def test_what_was_rejected_is_not_approved_later(asking):
    made = propose(asking, text(asking, (CLERK, WIDER)))["proposal"]
    asking.ask_as(SECOND, "policy.reject", proposal=made, reason="too wide")
    with pytest.raises(CallerFault, match="no policy proposal"):
        asking.ask_as(THIRD, "policy.approve", proposal=made)
    (entry,) = asking.ask("audit.list", action="policy.rejected", limit=1)
    assert (entry["actor"], entry["reason"]) == (f"uid:{SECOND}", "too wide")


def test_what_must_not_be_is_not_even_proposed(asking):
    never = 'never: [{name: x, roles: [clerk], may: "invoice: read"}]\n\nlimits:'
    with pytest.raises(OperatorFault, match="never 'x'"):
        propose(asking, asking.policy((CLERK, WIDER), ("limits:", never)))


def test_without_a_word_in_the_policy_a_proposal_is_still_for_somebody_else(site):
    made = propose(site, site.policy((CLERK, WIDER)))["proposal"]
    with pytest.raises(OperatorFault, match="somebody else"):
        site.ask("policy.approve", proposal=made)
    assert site.ask_as(SECOND, "policy.approve", proposal=made)["missing"] == 0
    assert reads_invoices(site)


@pytest.mark.parametrize("named", [set(), {"uid:0"}])
def test_nothing_is_proposed_where_nobody_else_could_say_yes(monkeypatch, named):
    monkeypatch.setattr(operations, "_change", lambda *_, **__: None)
    nobody = SimpleNamespace(plan=SimpleNamespace(approvals=SimpleNamespace(policy=0)))
    board = SimpleNamespace(turn=nullcontext(), reconciler=nobody, administrators=SimpleNamespace(named=named))
    with pytest.raises(OperatorFault, match="asks for nobody's approval") as refused:
        operations.propose_policy(board, "uid:0", Document(file="/p.yaml", text=""), "why")
    assert refused.value.hint == "`ostiary policy apply`"
