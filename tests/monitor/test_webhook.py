"""Alerts reach their receiver signed, in order, and again when it was away; what does not is counted."""

import asyncio
import logging

import pytest

from monitor.receiver import SECRET, Receiver, signed_by
from monitor.world import AT, after
from ostiary.audit.log import entries
from ostiary.foundation.clock import FixedClock
from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.secret import Secret
from ostiary.monitor import webhook
from ostiary.monitor.alerts import Notice
from ostiary.monitor.webhook import QUEUE_MAX, TRIES_MAX, Webhook, checked, set_secret, stored_secret
from ostiary.store.seal import Sealer


def notice(alert="al-1"):
    return Notice(
        alert=alert, rule="error-rate", key="system:erp", severity="high", state="firing", at="2026-03-03T10:00:00.000Z",
        what="w", investigate="i", evidence={"errors": 7},
    )  # fmt: skip


class Sleeps(list):
    """Notes how long was to be slept, and lets time pass on the clock instead."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    async def __call__(self, seconds):
        self.append(seconds)
        self.clock.at = after((self.clock.at - AT).total_seconds() + seconds)


class Teller:
    """A webhook of its own clock, for one receiver."""

    def __init__(self, url, secret=SECRET):
        self.clock = FixedClock(AT)
        self.slept = Sleeps(self.clock)
        self.hook = Webhook(url, Secret(secret) if secret else None, self.clock, sleep=self.slept)


async def test_an_alert_arrives_whole_and_its_receiver_can_check_the_signature(receiver):
    assert await Teller(receiver.url).hook.deliver(notice())
    [(headers, body)] = receiver.seen
    assert headers["content-type"] == "application/json"
    assert signed_by(SECRET, headers["ostiary-signature"], body) == int(AT.timestamp())
    assert signed_by("another", headers["ostiary-signature"], body) is None
    assert signed_by(SECRET, headers["ostiary-signature"], body + b" ") is None
    assert receiver.notices[0]["alert"] == "al-1"
    assert set(receiver.notices[0]) == set(Notice.__struct_fields__)


async def test_without_a_secret_nothing_is_signed(receiver):
    assert await Teller(receiver.url, secret="").hook.deliver(notice())
    assert "ostiary-signature" not in receiver.seen[0][0]


@pytest.mark.parametrize("status", [500, 503, 429, 302])
async def test_a_receiver_in_trouble_is_asked_again_more_and_more_slowly(receiver, status):
    receiver.answers.extend([status] * 3)
    teller = Teller(receiver.url)
    assert await teller.hook.deliver(notice())
    assert teller.slept == [2.0, 4.0, 8.0]
    times = [signed_by(SECRET, headers["ostiary-signature"], body) for headers, body in receiver.seen]
    assert [one - times[0] for one in times] == [0, 2, 6, 14]
    assert teller.hook.lost == 0


async def test_after_the_last_try_it_is_lost_and_counted(receiver):
    receiver.answers.extend([503] * TRIES_MAX)
    teller = Teller(receiver.url)
    assert not await teller.hook.deliver(notice())
    assert (len(receiver.seen), len(teller.slept), teller.hook.lost) == (TRIES_MAX, TRIES_MAX - 1, 1)


@pytest.mark.parametrize("status", [400, 401, 404, 410])
async def test_a_receiver_that_does_not_want_it_is_not_asked_again(receiver, status):
    receiver.answers.append(status)
    teller = Teller(receiver.url)
    assert not await teller.hook.deliver(notice())
    assert (len(receiver.seen), teller.slept, teller.hook.lost) == (1, [], 1)


async def test_a_receiver_that_is_away_is_tried_again():
    gone = Receiver()
    gone.close()
    teller = Teller(gone.url)
    assert not await teller.hook.deliver(notice())
    assert (len(teller.slept), teller.hook.lost) == (TRIES_MAX - 1, 1)


async def test_a_redirect_is_not_followed(receiver):
    other = Receiver()
    receiver.elsewhere = other.url
    receiver.answers.extend([302] * TRIES_MAX)
    assert not await Teller(receiver.url).hook.deliver(notice())
    assert other.seen == []
    other.close()


async def delivered(receiver, hook, count):
    """Runs the webhook until the receiver saw so many."""
    running = asyncio.create_task(hook.run())
    await asyncio.to_thread(receiver.wait_for, count)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_alerts_are_told_in_order(receiver):
    teller = Teller(receiver.url)
    for n in range(20):
        teller.hook.offer(notice(f"al-{n}"))
    await delivered(receiver, teller.hook, 20)
    assert [one["alert"] for one in receiver.notices] == [f"al-{n}" for n in range(20)]


async def test_one_alert_that_breaks_does_not_silence_the_next(receiver, monkeypatch):
    teller = Teller(receiver.url)
    real, broken = webhook.signature, [ValueError("broken")]

    def once_broken(*given):
        if broken:
            raise broken.pop()
        return real(*given)

    monkeypatch.setattr(webhook, "signature", once_broken)
    teller.hook.offer(notice("al-1"))
    teller.hook.offer(notice("al-2"))
    await delivered(receiver, teller.hook, 1)
    assert (receiver.notices[0]["alert"], teller.hook.lost) == ("al-2", 1)


async def test_a_full_queue_does_not_hold_up_the_watch_and_is_counted(receiver):
    teller = Teller(receiver.url)
    for _ in range(QUEUE_MAX + 3):
        teller.hook.offer(notice())
    assert teller.hook.lost == 3


@pytest.mark.parametrize(
    "url", ["https://alerts.example/x", "http://127.0.0.1:9/", "http://localhost/", "http://[::1]:8080/a"]
)
def test_https_and_this_machine_are_told(url):
    assert checked(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://alerts.example/", "http://127.0.0.1.evil.example/", "http://localhost.evil.example/",
        "http://127.0.0.1@evil.example/", "http://evil.example#@127.0.0.1/", "http://169.254.169.254/", "http://0.0.0.0/",
        "https:///nowhere", "https:", "file:///etc/passwd", "ftp://127.0.0.1/", "unix:///run/x", "https://[::1/", "\x00", "",
    ],
)  # fmt: skip
def test_no_other_address_is_told(url):
    with pytest.raises(OperatorFault, match="https"):
        checked(url)


async def test_neither_secret_nor_address_is_logged(receiver, caplog):
    caplog.set_level(logging.DEBUG)
    receiver.answers.append(404)
    teller = Teller(receiver.url.replace("//", "//me:hunter2@"))
    await teller.hook.deliver(notice())
    assert "webhook: status 404" in caplog.text
    assert SECRET not in caplog.text
    assert "hunter2" not in caplog.text


def test_the_secret_is_kept_sealed_and_the_change_audited(store):
    sealer = Sealer(b"k" * 32)
    with store.read() as connection:
        assert stored_secret(connection, sealer) is None
    for text in ("first", SECRET):
        with store.begin() as connection:
            set_secret(connection, sealer, Secret(text), actor="uid:0", now=AT)
    with store.read() as connection:
        assert stored_secret(connection, sealer) == Secret(SECRET)
        told = list(entries(connection, limit=5))
        with pytest.raises(OperatorFault):
            stored_secret(connection, Sealer(b"x" * 32))
    assert [(one["action"], one["actor"]) for one in told] == [("webhook.secret", "uid:0")] * 2
    assert SECRET not in str(told)
