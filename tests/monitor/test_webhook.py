"""Alerts reach their receiver whole, in order, and again when it was away; what does not is counted."""

import asyncio
import base64
import logging
import socket

import pytest

from monitor.receiver import Receiver
from ostiary.foundation.errors import OperatorFault
from ostiary.monitor.alerts import Notice
from ostiary.monitor.watch import QUEUE_MAX, TRIES_MAX, Webhook, checked


def notice(alert="al-1"):
    return Notice(
        alert=alert, rule="error-rate", key="system:erp", severity="high", state="firing", at="2026-03-03T10:00:00.000Z",
        what="w", investigate="i", evidence={"errors": 7},
    )  # fmt: skip


class Sleeps(list):
    """Notes how long was to be slept."""

    async def __call__(self, seconds):
        self.append(seconds)


class Teller:
    """A webhook for one receiver, and how long it slept."""

    def __init__(self, url):
        self.slept = Sleeps()
        self.hook = Webhook(url, sleep=self.slept)


async def test_an_alert_arrives_whole_with_the_name_and_password_of_the_address(receiver):
    assert await Teller(receiver.url.replace("//", "//me:hunter2@")).hook.deliver(notice())
    [(headers, _)] = receiver.seen
    assert headers["content-type"] == "application/json"
    assert headers["Authorization"] == f"Basic {base64.b64encode(b'me:hunter2').decode()}"
    assert receiver.notices[0]["alert"] == "al-1"
    assert set(receiver.notices[0]) == set(Notice.__struct_fields__)


@pytest.mark.parametrize("status", [500, 503, 429, 302])
async def test_a_receiver_in_trouble_is_asked_again_more_and_more_slowly(receiver, status):
    receiver.answers.extend([status] * 3)
    teller = Teller(receiver.url)
    assert await teller.hook.deliver(notice())
    assert teller.slept == [2.0, 4.0, 8.0]
    assert (len(receiver.seen), teller.hook.lost) == (4, 0)


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
    with socket.socket() as gone:  # its port is nobody else's meanwhile
        gone.bind(("127.0.0.1", 0))
        teller = Teller(f"http://127.0.0.1:{gone.getsockname()[1]}/alerts")
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
    real, broken = teller.hook.deliver, [ValueError("broken")]

    async def once_broken(told):
        if broken:
            raise broken.pop()
        return await real(told)

    monkeypatch.setattr(teller.hook, "deliver", once_broken)
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


async def test_neither_password_nor_path_is_logged(receiver, caplog):
    caplog.set_level(logging.DEBUG)
    receiver.answers.append(404)
    teller = Teller(receiver.url.replace("//", "//me:hunter2@"))
    await teller.hook.deliver(notice())
    place = receiver.url.rpartition("/")[0]
    told = [one.getMessage() for one in caplog.records if one.name == "ostiary.monitor.watch"]
    assert told == [f"webhook {place}: status 404"]
    assert "hunter2" not in caplog.text


async def test_that_alerts_do_not_get_out_is_told_until_they_do_and_what_was_lost_stays_told(receiver):
    teller, place = Teller(receiver.url), receiver.url.rpartition("/")[0]
    assert teller.hook.untold == ""
    receiver.answers.append(404)
    await teller.hook.deliver(notice())
    lost = f"1 notice to {place} lost since the start"
    assert teller.hook.untold == f"{place} does not take alerts (status 404); {lost}"
    await teller.hook.deliver(notice())
    assert teller.hook.untold == lost
