"""What dies comes back; meanwhile the gate refuses what needed it, and nothing is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from ostiary.audit.log import Change
from ostiary.cli import terminal
from ostiary.control import up
from ostiary.control.installation import opened
from ostiary.foundation import unix
from ostiary.foundation.errors import SystemFault
from ostiary.foundation.home import Home
from ostiary.foundation.secret import Secret
from ostiary.foundation.unix import Answer
from ostiary.identity import keys
from ostiary.store.directory import revoke
from receiver import Receiver
from running import APART, installed, until

pytestmark = APART
ORDER = b'{"lines": []}'
LEASE_S = 3
HURRIED = f"members.RENEW_EVERY_S, reconcile.LEASE_S = 0.5, {LEASE_S}"


@pytest.fixture(scope="module")
def place():
    """Five of its children are killed below; a sixth within a minute would end it."""
    with installed() as one:
        yield one.start()


@pytest.fixture
def token(place):
    return place.token("clerk")


@contextmanager
def dead(place, name):
    """Killed, and kept from being started again."""
    place.process.send_signal(signal.SIGSTOP)
    try:
        os.kill(place.children()[name], signal.SIGKILL)
        yield
    finally:
        place.process.send_signal(signal.SIGCONT)


def native(place, token):
    return place.once("GET", "/shop/stock", token=token).status


def inspected(place, token):
    return place.once("POST", "/shop/orders", ORDER, token=token)


def whole(place, token):
    """All is as before: every part, both ways through, the record."""
    place.wait_until_up(without=["watch"])
    assert native(place, token) == 200
    assert inspected(place, token).status == 200
    verified = place.ostiary("audit", "verify")
    assert (verified.code, "holds" in verified.out) == (0, True)
    assert (place.home.plans / "current").read_text() == place.revision


def test_a_dead_guard_refuses_what_it_must_look_at_and_comes_back(place, token):
    with dead(place, "guard"):
        refused = until(lambda: (one := inspected(place, token)).status == 503 and one)
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.reason == "unavailable"
        assert native(place, token) == 200
    until(lambda: inspected(place, token).status == 200)
    whole(place, token)


def test_what_changes_while_the_guard_is_dead_is_recorded_told_and_brought_later(place, token):
    other = place.client("other", "clerk")
    with dead(place, "guard"):
        made = place.ask("client.add", client_id="late", roles=["clerk", "visitor"])
        failed = place.ostiary("client", "roles", "other", "visitor")
        assert (failed.code, "recorded, but not in force everywhere" in failed.err) == (4, True)
        assert until(lambda: place.once("GET", "/shop/stock", token=other).reason == "token-revoked")
    place.secrets["late"] = Secret(made["client_secret"])
    whole(place, token)
    assert inspected(place, place.fresh("late")).status == 200
    assert place.once("POST", "/shop/orders", ORDER, token=place.fresh("other")).reason == "role"


def test_without_identity_no_token_is_given_and_those_out_work_on(place, token):
    with dead(place, "identity"):
        with pytest.raises(AssertionError, match="503"):
            place.fresh("clerk-client")
        assert native(place, token) == 200
    whole(place, token)
    assert place.fresh("clerk-client")


def test_without_control_the_gate_goes_on_and_revocations_are_not_lost(place, token):
    gone = place.client("gone", "clerk")
    with dead(place, "control"):
        assert native(place, token) == 200
        told = place.ostiary("status").err
        assert "control does not answer" in told
        assert "[no-answer]" in told
        assert "`ostiary up` runs, and starts control again" in told
        revoked = place.once(
            "POST", "/identity/revoke", f"token={gone}&client_id=gone&client_secret={place.secrets['gone'].reveal()}".encode(),
            content_type="application/x-www-form-urlencoded",
        )  # fmt: skip
        assert revoked.status == 200
    until(lambda: place.once("GET", "/shop/stock", token=gone).reason == "token-revoked")
    whole(place, token)


def test_without_envoy_nothing_passes_and_it_comes_back_with_the_same_policy(place, token):
    with dead(place, "envoy"), pytest.raises(OSError):
        native(place, token)
    whole(place, token)


def test_no_child_outlives_a_supervisor_that_was_killed():
    with installed() as site:
        site.start()
        children = site.children().values()
        assert len(children) == 4
        site.process.kill()
        site.process.wait()
        until(lambda: not any(alive(pid) for pid in children))
        site.home.policy.write_text(site.home.policy.read_text() + "# a draft\n")
        site.begin()
        site.wait_until_up()
        assert "policy.yaml differs" in site.log.read_text(), "what is in force is told at the start"
        assert site.ostiary("audit", "verify").code == 0
        assert site.stop() == 0


def test_a_second_one_in_the_same_folder_is_refused_and_does_no_harm(place, token):
    second = place.ostiary("up")
    assert (second.code, second.err.count("error: ")) == (2, 1)
    assert "[already-running]" in second.err
    assert "what to do: see `ostiary status`" in second.err
    whole(place, token)


@pytest.mark.parametrize(("number", "stops"), [(0, False), (signal.SIGCHLD, False), (signal.SIGINT, True)])
def test_a_supervisor_that_was_suspended_goes_on(monkeypatch, number, stops):
    """Python tells a signal with number 0 when the process was stopped for longer than it waits."""
    monkeypatch.setattr(up.signal, "sigtimedwait", lambda *_: SimpleNamespace(si_signo=number))
    assert up._told_to_stop() is stops


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_started_for_a_parent_that_has_gone_already_it_does_not_start():
    with installed() as site:
        command = [sys.executable, "-m", "ostiary.control.up", str(site.home.root), "--with-parent", "1"]
        assert subprocess.run(command, check=False, timeout=60).returncode == 1
        assert not site.home.socket("control").exists()


def test_what_dies_again_and_again_ends_all_with_one_message():
    with installed() as site:
        site.start()
        killed = set()
        while site.process.poll() is None:
            pid = site.children().get("guard", 0)
            if pid and pid not in killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        assert site.process.returncode == 4
        assert len(killed) == 6
        (message,) = [line for line in site.tail().splitlines() if line.startswith("error: ")]
        assert message == "error: guard ended 6 times within a minute, the last time with signal SIGKILL [child-died]"
        assert "what to do: " in site.tail()
        assert not any(alive(pid) for pid in killed)


def test_what_starting_again_cannot_mend_ends_all_at_once():
    with installed() as site:
        site.start()
        site.settings(colour="green")
        os.kill(site.children()["guard"], signal.SIGKILL)
        assert site.process.wait(20) == 2
        assert site.tail().count("[settings-invalid]") == 1
        assert "[child-refused]" in site.tail()


@pytest.fixture(scope="module")
def hurried():
    """Its lease lasts for seconds."""
    with installed() as one:
        yield one.start(HURRIED)


@contextmanager
def silent(site):
    """Control is there and does nothing, since whenever; nobody notices."""
    site.process.send_signal(signal.SIGSTOP)
    control = site.children()["control"]
    os.kill(control, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(control, signal.SIGCONT)
        site.process.send_signal(signal.SIGCONT)
        until(lambda: native(site, site.token("clerk")) == 200)


def refused_by(site):
    """The first refusal, which comes by itself."""
    return until(lambda: (one := site.once("GET", "/shop/stock", token=site.token("clerk"))).status != 200 and one)


@pytest.mark.parametrize("word", ["close", f"keep {2 * LEASE_S} seconds"])
def test_the_gate_closes_by_itself_when_control_stays_away_and_says_why(hurried, word):
    hurried.token("clerk")
    hurried.apply(f"{hurried.policy()}\nwhen-silent: {word}\n")
    until(lambda: native(hurried, hurried.token("clerk")) == 200)
    with silent(hurried):
        refused = refused_by(hurried)
        assert (refused.status, refused.reason) == (503, "closed")
    told = hurried.ask("explain", decision=refused.decision)["text"]
    assert "its control side is silent" in told
    assert "ostiary doctor" in told


@pytest.mark.parametrize("word", ["keep 10 minutes", "keep"])
def test_where_the_policy_says_so_the_gate_goes_on_for_longer_than_its_lease(hurried, word):
    token = hurried.token("clerk")
    hurried.apply(f"{hurried.policy()}\nwhen-silent: {word}\n")
    with silent(hurried):
        over = time.monotonic() + 2 * LEASE_S
        until(lambda: time.monotonic() > over)
        until(lambda: native(hurried, token) == 200)


def test_where_the_policy_says_ask_the_guard_refuses_what_the_store_says_was_revoked(hurried):
    """A disabled person, an ended session, a token that was taken back, a key in wrong hands: recorded by others while
    control is silent.
    """
    key = hurried.ask("client.add", client_id="keyed", roles=["clerk"], auth="api_key")["client_secret"]
    hurried.token("clerk")
    tokens = [hurried.client(name, "clerk") for name in ("leaver", "stayer")]
    hurried.apply(f"{hurried.policy()}\nwhen-silent: ask\n")
    until(lambda: [native(hurried, one) for one in tokens] == [200, 200])
    with silent(hurried):
        with opened(hurried.home) as on, on.store.begin() as connection:
            revoke(connection, ["gen:client:leaver#1"], expires_at_s=2**40, reason="", at_us=0)
        refused = until(lambda: (one := hurried.once("GET", "/shop/stock", token=tokens[0])).status != 200 and one)
        assert (refused.status, refused.reason) == (401, "token-revoked")
        assert native(hurried, tokens[1]) == 200
        assert native(hurried, key) == 200
        with opened(hurried.home) as on, on.store.begin() as connection:
            change = Change(connection, "uid:0", on.clock.now())
            keys.rotate(change, on.sealer, compromised=True)  # as another node does it: the gate knows the key still
        hurried._tokens["clerk"] = hurried.fresh("clerk-client")
        assert until(lambda: native(hurried, tokens[1]) != 200 and native(hurried, tokens[1])) == 401
        os.kill(hurried.children()["guard"], signal.SIGKILL)  # then nobody is there to look
        until(lambda: native(hurried, tokens[1]) == 503)


def test_of_a_control_that_is_silent_others_hear_while_it_is():
    """From `up`, which alone lives then; what control itself would tell of it has an id."""
    with closing(Receiver()) as receiver, installed(webhook=receiver.url) as site:
        site.start("members.RENEW_EVERY_S, up.SILENT_S, up.LOOK_EVERY_S, up.MISSED_MAX = 0.2, 3.0, 0.1, 10**6")
        os.kill(control := site.children()["control"], signal.SIGSTOP)
        (notice,) = until(lambda: receiver.notices, site.tail)
        assert (notice["alert"], notice["rule"], notice["severity"]) == ("-", "control-silent", "critical")
        assert notice["evidence"]["away_s"] >= 3
        os.kill(control, signal.SIGCONT)
        site.wait_until_up()


def test_a_control_that_hangs_is_said_to_hang_and_is_waited_for_no_longer(place, monkeypatch):
    """It is there, and takes the question: then nobody asks it the long one."""
    place.process.send_signal(signal.SIGSTOP)
    os.kill(control := place.children()["control"], signal.SIGSTOP)
    monkeypatch.setattr(terminal, "ALIVE_WITHIN_S", 0.2)
    asked, call = [], unix.call
    monkeypatch.setattr(unix, "call", lambda *given, **named: asked.append(given) or call(*given, **named))
    try:
        with pytest.raises(SystemFault, match="control does not answer") as told:
            terminal.ask(place.home, "status")
    finally:
        os.kill(control, signal.SIGCONT)
        place.process.send_signal(signal.SIGCONT)
    assert (told.value.code, asked) == ("no-answer", [])
    assert "starts control again" in told.value.hint
    place.wait_until_up(without=["watch"])


def test_a_control_that_answers_without_its_lease_s_age_counts_as_silent_and_ends_nothing(monkeypatch):
    monkeypatch.setattr(up.unix, "ask", lambda *_, **__: Answer(405, b"Method Not Allowed"))
    pulse = up._Pulse(Home(root=Path("/nowhere")), print)
    began = pulse._renewed_s
    for _ in up.QUESTIONS:
        pulse.feel({})
    assert pulse._renewed_s == began


def test_every_part_is_asked_what_it_answers(place):
    for name, (socket, method, question) in up.QUESTIONS.items():
        assert unix.ask(place.home.socket(socket), method, question).status == 200, name


def test_silence_is_told_once_until_control_is_heard_again(monkeypatch):
    told = []
    monkeypatch.setattr(up.process, "Copy", lambda _, tell: tell())
    pulse = up._Pulse(Home(root=Path("/nowhere")), told.append)
    for away_s in (0, 20, 21, 25, 300, 1, 21):
        pulse._tell(away_s)
    assert [json.loads(one)["evidence"]["away_s"] for one in told] == [21, 21]


@pytest.mark.long
def test_a_process_that_is_there_but_silent_is_killed_and_comes_back():
    with installed() as site:
        site.start()
        token, guard = site.token("clerk"), site.children()["guard"]
        os.kill(guard, signal.SIGSTOP)
        until(lambda: site.children().get("guard", guard) != guard, patience_s=90)
        until(lambda: inspected(site, token).status == 200)
