"""What is told outside arrives whole, in order, and again where it was not taken; nobody waits for who does not answer."""

import asyncio
import base64
import logging
import socket
import threading
import time
from contextlib import closing, contextmanager

import pytest
from sqlalchemy import delete, func, select, update

from fixed_clock import FixedClock
from monitor.world import AT, after, notices
from ostiary.audit.log import Change, entries
from ostiary.control import outbox
from ostiary.control.installation import Installation
from ostiary.control.outbox import PAUSE_S, TIMEOUT_S, TRIES_MAX, Outbox, checked
from ostiary.foundation.errors import OperatorFault, SystemFault
from ostiary.foundation.home import Home, Settings
from ostiary.identity import keys, registration
from ostiary.monitor import alerts
from ostiary.monitor.rules import Finding
from ostiary.store.database import Sealer
from ostiary.store.tables import CLIENT, OUTBOX, SIGNING_KEY
from receiver import Receiver
from running import until


@pytest.fixture
def receiver():
    with closing(Receiver()) as made:
        yield made


@pytest.fixture
def silent():
    """An address where a connection is taken, and nothing is ever answered."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen(100)
        yield f"http://127.0.0.1:{made.getsockname()[1]}/alerts"


class World:
    """An installation with all that the outbox looks at, and one outbox after the other."""

    def __init__(self, store, folder, **settings):
        self.store, self.clock = store, FixedClock(AT)
        self.on = Installation(
            home=Home(root=folder),
            settings=Settings(**settings),
            store=store,
            sealer=Sealer(b"k" * 32),
            clock=self.clock,
        )
        self.outbox = Outbox(self.on)

    def later(self, seconds):
        self.clock.at += after(seconds) - AT

    def restarted(self):
        self.outbox = Outbox(self.on)
        return self

    def fire(self, *names):
        with self.store.begin() as connection:
            for name in names:
                finding = Finding(rule="error-rate", key=f"system:{name}", at=self.clock.now(), evidence={"errors": 7})
                alerts.fire(connection, finding)

    def client(self, name, place):
        """To be told of the end of one session; in plain http, for whoever takes it runs here."""
        with self.store.begin() as connection:
            keys.ensure(connection, self.on.sealer, AT)
            change = Change(connection, "uid:0", AT)
            told = {"redirects": ["https://a.example/"], "backchannel_logout_uri": "https://told.example/"}
            registration.add_client(change, sealer=self.on.sealer, client_id=name, auth="none", **told)
            mine, facts = (
                CLIENT.c.principal == f"client:{name}",
                func.replace(CLIENT.c.facts, "https://told.example/", place),
            )
            connection.execute(update(CLIENT).where(mine).values(facts=facts, backchannel_logout_uri=place))
            ended = {"receiver": f"client:{name}", "body": '{"sub": "user:anna", "sid": "s1"}'}
            connection.execute(OUTBOX.insert().values(**ended))

    def round(self):
        """Whoever is due is told, and nobody else."""

        async def told():
            await asyncio.gather(*(self.outbox.tell(one) for one in self.outbox.due()))

        asyncio.run(told())
        return self.waiting()

    def waiting(self):
        with self.store.read() as connection:
            return len(connection.execute(select(OUTBOX.c.id)).all())


@contextmanager
def running(outbox):
    """As control runs it."""
    loop, begun = asyncio.new_event_loop(), []

    async def run():
        begun.append(asyncio.current_task())
        await outbox.run()

    def whole():
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(run())

    thread = threading.Thread(target=whole)
    thread.start()
    yield thread
    loop.call_soon_threadsafe(begun[0].cancel)
    thread.join(10)
    loop.close()
    assert not thread.is_alive()


def keyed(told):
    return [one["key"].removeprefix("system:") for one in told]


def test_an_alert_arrives_whole_with_the_name_and_password_of_the_address(store, tmp_path, receiver):
    world = World(store, tmp_path, webhook=receiver.url.replace("//", "//me:hunter2@"))
    world.fire("erp")
    (told,) = notices(store)
    assert world.round() == 0
    [(headers, _)] = receiver.seen
    assert headers["content-type"] == "application/json"
    assert headers["Authorization"] == f"Basic {base64.b64encode(b'me:hunter2').decode()}"
    assert receiver.notices == [told]


def test_a_notice_survives_a_restart(store, tmp_path, receiver):
    """Also one that was on its way: what nobody has noted as taken is told again."""
    world = World(store, tmp_path, webhook=receiver.url)
    receiver.answers.append(503)
    world.fire("erp")
    assert world.round() == 1
    assert world.restarted().round() == 1
    world.later(PAUSE_S)
    assert world.restarted().outbox._next(alerts.WEBHOOK).tries == 2  # and control dies before there is an answer
    assert world.restarted().round() == 1
    world.later(PAUSE_S * 4)
    assert world.restarted().round() == 0
    assert keyed(receiver.notices) == ["erp", "erp"]


@pytest.mark.parametrize("status", [500, 503, 429, 302])
def test_a_receiver_in_trouble_is_asked_again_more_and_more_slowly(store, tmp_path, receiver, status):
    receiver.answers.extend([status] * 3)
    world = World(store, tmp_path, webhook=receiver.url)
    world.fire("erp")
    for tries in (1, 2, 3):
        assert (world.round(), len(receiver.seen)) == (1, tries)
        world.later(PAUSE_S * tries**2 - 1)
        assert (world.round(), len(receiver.seen)) == (1, tries)
        world.later(1)
    assert (world.round(), len(receiver.seen), world.outbox.lost) == (0, 4, 0)


@pytest.mark.parametrize("away", [True, False])
def test_after_the_last_try_it_is_lost_and_counted(store, tmp_path, receiver, away):
    receiver.answers.extend([503] * TRIES_MAX)
    if away:
        receiver.close()
    world = World(store, tmp_path, webhook=receiver.url)
    world.fire("erp")
    for tries in range(1, TRIES_MAX + 1):
        assert world.outbox.lost == 0
        left = world.round()
        world.later(PAUSE_S * tries**2)
    assert (left, world.outbox.lost, len(receiver.seen)) == (0, 1, 0 if away else TRIES_MAX)


@pytest.mark.parametrize("status", [400, 401, 404, 410])
def test_a_receiver_that_does_not_want_it_is_not_asked_again(store, tmp_path, receiver, status):
    receiver.answers.append(status)
    world = World(store, tmp_path, webhook=receiver.url)
    world.fire("erp")
    assert (world.round(), len(receiver.seen), world.outbox.lost) == (0, 1, 1)


def test_a_redirect_is_not_followed(store, tmp_path, receiver):
    with closing(Receiver()) as other:
        receiver.elsewhere = other.url
        receiver.answers.append(302)
        world = World(store, tmp_path, webhook=receiver.url)
        world.fire("erp")
        world.round()
        assert (len(receiver.seen), other.seen) == (1, [])


def test_alerts_are_told_in_order_also_where_the_first_is_not_taken(store, tmp_path, receiver):
    world = World(store, tmp_path, webhook=receiver.url)
    names = [f"a{n}" for n in range(12)]
    world.fire(*names)
    receiver.answers.append(503)
    assert (world.round(), len(receiver.seen)) == (12, 1)
    world.fire("last")
    assert (world.round(), len(receiver.seen)) == (13, 1)
    world.later(PAUSE_S)
    assert world.round() == 0
    assert keyed(receiver.notices)[1:] == [*names, "last"]


def test_who_does_not_answer_delays_no_other(store, tmp_path, receiver, silent, monkeypatch):
    """Neither a client that is silent the web address and other clients, nor the web address the clients."""
    monkeypatch.setattr(outbox, "LOOK_EVERY_S", 0.02)
    began = time.monotonic()
    world = World(store, tmp_path, webhook=receiver.url)
    for n in range(3):
        world.client(f"silent{n}", silent)
    with running(world.outbox):
        world.fire("erp")
        receiver.wait_for(1)
        world.client("well", receiver.url)
        receiver.wait_for(2)
    deaf = World(store, tmp_path, webhook=silent)
    deaf.fire("b", "c")
    with running(deaf.outbox):
        deaf.client("other", receiver.url)
        receiver.wait_for(3)
    assert time.monotonic() - began < TIMEOUT_S
    assert [b"logout_token" in body for _, body in receiver.seen] == [False, True, True]


def test_names_that_nobody_resolves_delay_no_other(store, tmp_path, receiver, monkeypatch):
    monkeypatch.setattr(outbox, "LOOK_EVERY_S", 0.02)
    resolve, over, asked = socket.getaddrinfo, threading.Event(), []

    def resolver(host, *more, **options):
        if "away" in str(host):
            asked.append(host)
            over.wait(20)
        return resolve(host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    world = World(store, tmp_path, webhook=receiver.url)
    for n in range(40):
        world.client(f"away{n}", f"http://away{n}.invalid/")
    with running(world.outbox):
        try:
            until(lambda: len(asked) == 40)
            world.fire("erp")
            receiver.wait_for(1)
        finally:
            over.set()


def test_who_never_answers_is_left_in_time(store, tmp_path, silent, monkeypatch):
    monkeypatch.setattr(outbox, "TIMEOUT_S", 0.2)
    world = World(store, tmp_path, webhook=silent)
    world.fire("erp")
    assert world.round() == 1
    assert "Timeout" in world.outbox.untold


def test_what_cannot_be_written_for_one_silences_no_other(store, tmp_path, receiver):
    world = World(store, tmp_path, webhook=receiver.url)
    world.client("shop", receiver.url)
    with store.begin() as connection:
        connection.execute(delete(SIGNING_KEY))
    world.fire("erp")
    assert world.round() == 1
    assert keyed(receiver.notices) == ["erp"]
    for tries in range(1, TRIES_MAX):
        world.later(PAUSE_S * tries**2)
        left = world.round()
    assert left == 0
    with store.read() as connection:
        (told,) = [one for one in entries(connection, limit=10) if one["action"] == "client.untold"]
    assert told["after"] == {"sid": "s1", "status": 0, "tries": TRIES_MAX}


def test_what_more_waits_than_is_kept_is_lost_and_counted(store, tmp_path, receiver, monkeypatch):
    monkeypatch.setattr(outbox, "WAITING_MAX", 2)
    world = World(store, tmp_path, webhook=receiver.url)
    receiver.answers.append(503)
    world.fire("a", "b", "c", "d", "e")
    assert (world.round(), world.outbox.lost) == (2, 3)
    assert keyed(notices(store)) == ["a", "b"]


def test_where_no_address_is_set_nothing_waits_and_nothing_is_lost(store, tmp_path):
    world = World(store, tmp_path)
    world.fire("erp")
    assert (world.round(), world.outbox.lost, world.outbox.untold) == (0, 0, "")


def test_a_store_that_is_away_for_a_while_ends_nothing(store, tmp_path, receiver, monkeypatch):
    monkeypatch.setattr(outbox, "LOOK_EVERY_S", 0.02)
    world, broken = World(store, tmp_path, webhook=receiver.url), threading.Event()
    read = store.read

    def away():
        broken.set()
        raise SystemFault("store-unavailable", "no")

    world.fire("erp")
    monkeypatch.setattr(store, "read", away)
    with running(world.outbox) as thread:
        assert broken.wait(10)
        monkeypatch.setattr(store, "read", read)
        receiver.wait_for(1)
        assert thread.is_alive()


@pytest.mark.parametrize(("status", "taken"), [(204, True), (503, False), (404, False)])
def test_what_no_store_keeps_is_told_directly_and_once(store, tmp_path, receiver, status, taken):
    receiver.answers.append(status)
    world = World(store, tmp_path, webhook=receiver.url)
    found = Finding(rule="store-silent", key="store", at=AT, evidence={"away_s": 31})
    assert world.outbox.call(alerts.unkept(found)) is taken
    assert [one["alert"] for one in receiver.notices] == ["-"]
    assert world.waiting() == 0


def test_a_wrong_address_is_told_at_the_start(store, tmp_path):
    with pytest.raises(OperatorFault, match="https"):
        World(store, tmp_path, webhook="http://alerts.example/")


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


def test_neither_password_nor_path_is_logged(store, tmp_path, receiver, caplog):
    caplog.set_level(logging.DEBUG)
    receiver.answers.append(503)
    world = World(store, tmp_path, webhook=receiver.url.replace("//", "//me:hunter2@"))
    world.fire("erp")
    world.round()
    place = receiver.url.rpartition("/")[0]
    told = [one.getMessage() for one in caplog.records if one.name == outbox.__name__]
    assert told == [f"webhook {place}: status 503"]
    assert "hunter2" not in caplog.text


def test_that_alerts_do_not_get_out_is_told_until_they_do_and_what_was_lost_stays_told(store, tmp_path, receiver):
    world, place = World(store, tmp_path, webhook=receiver.url), receiver.url.rpartition("/")[0]
    assert world.outbox.untold == ""
    receiver.answers.append(404)
    world.fire("a")
    world.round()
    lost = f"1 notice to {place} lost since the start"
    assert world.outbox.untold == f"{place} does not take alerts (status 404); {lost}"
    world.fire("b")
    world.round()
    assert world.outbox.untold == lost
