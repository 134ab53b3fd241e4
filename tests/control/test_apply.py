"""`policy apply`: in force everywhere when it returns, or nothing changed and said so."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from ostiary.foundation.errors import OperatorFault, SystemFault
from running import APART, RUNNING, installed, until

BILLED = ("stock: read", "invoice: read")
BROKEN = (("level: user, of: sales, may", "levell: user, of: nowhere, may"), ("/minute", "/fortnight"))


def in_force(site):
    return (site.home.plans / "current").read_text()


def everything(site):
    """What an apply may change, but for the lease that is renewed all the time."""
    lasting = [path for folder in (site.home.plans, site.home.envoy) for path in folder.rglob("*.json")]
    files = {str(path): path.read_bytes() for path in lasting if path.name != "revoked-hot.json"}
    return files, site.ask("audit.list", limit=1), in_force(site)


@RUNNING
def test_it_returns_when_the_policy_is_in_force_on_a_connection_opened_before(site):
    caller = site.caller(site.token("clerk"))
    for _ in range(5):
        assert caller.send("GET", "/shop/invoices").status == 403
        site.apply(site.policy(BILLED))
        assert caller.send("GET", "/shop/invoices").status == 200
        assert caller.send("GET", "/shop/stock").reason == "role"
        site.apply(site.policy())


@RUNNING
def test_every_problem_is_told_at_once_with_its_line_and_nothing_changes(site):
    before = everything(site)
    with pytest.raises(OperatorFault) as problem:
        site.apply(site.policy(*BROKEN))
    text = site.policy(*BROKEN).splitlines()
    wrong = [n for n, line in enumerate(text, 1) if "levell" in line or "nowhere" in line or "fortnight" in line]
    assert len(wrong) == 5
    assert all(f"policy.yaml:{line}:" in problem.value.message for line in wrong)
    assert everything(site) == before


@pytest.mark.standard("G8")
@RUNNING
def test_a_dry_run_says_what_would_change_and_changes_nothing(site):
    site.token("clerk")
    before = everything(site)
    told = site.apply(site.policy(BILLED), dry_run=True)
    assert "clerk may now shop/invoice:read" in str(told["changes"])
    assert told["before"] == in_force(site) != told["revision"]
    assert everything(site) == before


@RUNNING
def test_a_document_that_breaks_its_own_rules_is_refused(site):
    before = everything(site)
    rule = 'never:\n  - {name: no bills, level: user, may: "invoice: read"}\n\nlimits:'
    with pytest.raises(OperatorFault, match="no bills"):
        site.apply(site.policy(("limits:", rule)))
    assert everything(site) == before


@RUNNING
def test_a_relative_file_is_refused(site):
    with pytest.raises(OperatorFault) as problem:
        site.ask("policy.apply", document={"text": site.policy(), "file": "policy.yaml"})
    assert problem.value.code == "file-relative"


@RUNNING
def test_the_audit_log_says_who_did_what_when_and_why(site):
    before = in_force(site)
    began = datetime.now(UTC)
    told = site.apply(site.policy(BILLED), reason="quarter end")
    entry = site.ask("audit.list", action="policy.apply", limit=1)[0]
    assert entry["actor"] == f"uid:{os.getuid()}"
    assert entry["object"] == "test"
    assert entry["reason"] == "quarter end"
    assert entry["before"] == {"revision": before}
    assert entry["after"]["revision"] == told["revision"] == in_force(site)
    assert entry["after"]["changes"] == len(told["changes"])
    assert began - timedelta(seconds=1) <= datetime.fromisoformat(entry["at"]) <= datetime.now(UTC)


@RUNNING
def test_two_applies_at_the_same_time_follow_one_another(site):
    texts = [site.policy(("anonymous: {requests: 60000", f"anonymous: {{requests: {n}")) for n in range(50_000, 50_004)]
    with ThreadPoolExecutor(len(texts)) as people:
        told = list(people.map(site.apply, texts))
    entries = site.ask("audit.list", action="policy.apply", limit=len(texts))[::-1]
    assert {entry["after"]["revision"] for entry in entries} == {one["revision"] for one in told}
    assert [entry["before"]["revision"] for entry in entries[1:]] == [one["after"]["revision"] for one in entries[:-1]]
    assert in_force(site) == entries[-1]["after"]["revision"]
    assert all(part["ok"] for part in site.ask("status")["parts"] if part["name"] in {"gate", "guard", "policy"})


@RUNNING
def test_the_command_prints_the_change_and_the_revision(site):
    path = site.root / "other.yaml"
    path.write_text(site.policy(BILLED))
    done = site.ostiary("policy", "apply", str(path), "--reason", "by hand")
    assert done.code == 0, done.err
    assert "+ widens  clerk may now shop/invoice:read (other.yaml:" in done.out
    assert f"revision {in_force(site)} is in force at gate and guard" in done.out


@pytest.mark.standard("G8")
@APART
def test_a_roll_out_that_the_guard_does_not_take_leaves_the_last_one_in_force():
    with installed() as site:
        site.start()
        token, before = site.token("clerk"), in_force(site)
        os.kill(site.children()["guard"], signal.SIGKILL)
        with pytest.raises(SystemFault) as problem:
            site.apply(site.policy(BILLED))
        assert problem.value.code == "guard-silent"
        assert in_force(site) == before
        assert site.once("GET", "/shop/stock", token=token).status == 200
        entry = site.ask("audit.list", action="policy.rolled-back", limit=1)[0]
        assert entry["after"]["failed"] == "guard-silent"
        site.wait_until_up(without=["policy"])
        status = site.ostiary("status")
        assert status.code == 1
        assert f"revision {entry['after']['revision']} did not come into force (guard-silent)" in status.out
        site.apply(site.policy(BILLED))
        assert site.ostiary("status").code == 0
        assert site.once("GET", "/shop/invoices", token=token).status == 200


@pytest.mark.long
@APART
def test_a_roll_out_that_envoy_does_not_take_leaves_the_last_one_in_force():
    with installed() as site:
        site.start()
        token, before, envoy = site.token("clerk"), in_force(site), site.children()["envoy"]
        (site.root / "other.yaml").write_text(site.policy(BILLED))
        site.process.send_signal(signal.SIGSTOP)  # it would notice, and start another one
        os.kill(envoy, signal.SIGSTOP)
        with ThreadPoolExecutor(1) as waiting:
            apply = waiting.submit(site.ostiary, "policy", "apply", str(site.root / "other.yaml"))
            until(lambda: site.ask("audit.list", action="policy.rolled-back", limit=1) or apply.done(), patience_s=90)
            os.kill(envoy, signal.SIGCONT)
            site.process.send_signal(signal.SIGCONT)
            done = apply.result()
        assert done.code == 4
        assert "[gate-not-updated]" in done.err
        assert in_force(site) == before
        site.wait_until_up(without=["policy"])
        assert "(gate-not-updated)" in site.ostiary("status").out
        assert site.once("GET", "/shop/stock", token=token).status == 200
        assert site.once("GET", "/shop/invoices", token=token).reason == "role"
