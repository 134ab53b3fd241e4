"""What control does by itself, asked by nobody: keys turn when they are due, and what has expired goes."""

import base64
import json
import time

import pytest
from sqlalchemy import select

from ostiary.control.installation import opened
from ostiary.identity import keys
from ostiary.store.tables import ONE_TIME, SIGNING_KEY
from running import APART, installed, until

pytestmark = APART
DAYS_US = 40 * 24 * 3600 * 10**6
KEY = SIGNING_KEY.c
LONG_AGO = {"digest": "0" * 64, "client": "client:shop", "grant": "", "facts": "{}", "used": True, "expires_at_s": 1}
KEPT = {**LONG_AGO, "digest": "1" * 64, "expires_at_s": int(time.time()) + 3600}


@pytest.fixture(scope="module")
def old():
    """An installation that stood still for forty days: its keys are due, and a code has expired."""
    with installed() as one:
        one.start()
        one.before = one.client("shop", "visitor")
        one.stop()
        with opened(one.home) as on, on.store.begin() as connection:
            one.next = next_key(connection)
            connection.execute(SIGNING_KEY.update().values(since_us=KEY.since_us - DAYS_US))
            connection.execute(ONE_TIME.insert(), [LONG_AGO, KEPT])
        yield one.start()


def next_key(connection):
    return connection.scalars(select(KEY.kid).where(KEY.purpose == "access", KEY.state == "next")).one()


def part(token, number):
    data = token.split(".")[number]
    return json.loads(base64.urlsafe_b64decode(data + "=" * (-len(data) % 4)))


def stock(site, token):
    return site.once("GET", "/shop/stock", token=token).status


def published(site):
    return {one["kid"] for one in site.once("GET", "/identity/jwks").json()["keys"]}


def test_control_turns_keys_that_are_due_and_no_token_is_lost(old):
    until(lambda: part(old.fresh("shop"), 0)["kid"] == old.next)
    assert stock(old, old.before) == stock(old, old.fresh("shop")) == 200
    with opened(old.home) as on, on.store.read() as connection:
        after = next_key(connection)
        key = keys.load(connection, on.sealer, after)
    assert {part(old.before, 0)["kid"], old.next, after} <= published(old)
    early = key.sign(part(old.before, 1), type_="at+jwt")
    until(lambda: stock(old, early) == 200)  # the gate knows it a month before it signs
    assert {one["object"] for one in old.ask("audit.list", action="key.rotate", limit=9)} >= {"access", "id", "logout"}


def test_control_lets_go_of_what_has_expired_and_of_nothing_else(old):
    def left():
        with opened(old.home) as on, on.store.read() as connection:
            return set(connection.scalars(select(ONE_TIME.c.digest)))

    until(lambda: LONG_AGO["digest"] not in left())
    assert KEPT["digest"] in left()
