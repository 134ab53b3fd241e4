"""Access reviews: what is held and used is shown, somebody decides, the record is kept; a quarter later it is due again."""

from datetime import UTC, datetime, timedelta
from itertools import count

import msgspec
import pytest

from ostiary.control import giving, health
from ostiary.control.installation import opened
from ostiary.foundation.errors import CallerFault, OperatorFault, SystemFault
from ostiary.guard.journal import Line
from running import RUNNING, until

pytestmark = RUNNING
number = count()


@pytest.fixture
def held(site):
    """(the principal, an open connection) of a client that holds `visitor` and `clerk`, and has read the stock once."""
    name = f"r{next(number)}"
    caller = site.caller(site.client(name, "visitor", "clerk"))
    assert caller.send("GET", "/shop/stock").status == 200
    return f"client:{name}", caller


def item(site, principal, role):
    return next(
        (one for one in giving.reviews(site.home) if (one["principal"], one["role"]) == (principal, role)), None
    )


@pytest.mark.standard("B6")
def test_what_is_held_is_shown_with_its_use_and_is_kept_with_a_reason_that_stays(site, held):
    principal, caller = held
    shown = until(lambda: (one := item(site, principal, "visitor"))["used"] and one)
    assert (shown["used"], shown["due"]) == (1, False)
    site.ask("review.keep", principal=principal, role="visitor", reason="reads the stock daily")
    (entry,) = site.ask("audit.list", action="review.keep", limit=1)
    assert (entry["object"], entry["reason"]) == (principal, "reads the stock daily")
    assert entry["after"] == {"role": "visitor", "used": 1, "last": shown["last"], "whole": True}
    assert item(site, principal, "visitor")["by"] == entry["actor"]
    assert caller.send("GET", "/shop/stock").status == 200


@pytest.mark.standard("B6")
def test_that_more_was_done_than_is_kept_is_said_of_who_did_it_alone(site, held):
    """Else one call of many operations, by anybody, would put every other review in doubt."""
    other = f"client:{(name := f'r{next(number)}')}"
    site.client(name, "visitor")
    line = Line(
        at=datetime.now(UTC).isoformat(), decision="d-many", revision="", system="shop", subject=other, client=name,
        here={}, role_set="", scopes=(), person="", erp_user="", operations=("shop/stock:read",), whole=False,
        records=(), reason="allowed", rule="", detail="", us=1,
    )  # fmt: skip
    with site.home.guard_log.open("ab") as log:
        log.write(msgspec.json.encode(line) + b"\n")
    whole = {who: item(site, who, "visitor")["whole"] for who in (held[0], other)}
    assert whole == {held[0]: True, other: False}
    (note,) = [one for one in site.ostiary("review", "list").out.splitlines() if one.startswith("note: ")]
    assert note.startswith(f"note: of {other}: what was used is not known in full")


@pytest.mark.standard("B6")
def test_what_is_taken_away_at_a_review_is_gone_at_once_and_recorded(site, held):
    principal, caller = held
    site.ask("review.remove", principal=principal, role="clerk", reason="changed the department")
    assert until(lambda: caller.send("GET", "/shop/stock").reason == "token-revoked", patience_s=5)
    assert item(site, principal, "clerk") is None
    assert item(site, principal, "visitor") is not None
    (entry,) = site.ask("audit.list", action="review.remove", limit=1)
    assert (entry["object"], entry["after"]["role"]) == (principal, "clerk")


@pytest.mark.standard("B6")
def test_what_nobody_looked_at_for_a_quarter_is_told_red_until_somebody_does(site, held):
    principal, _ = held
    site.ask("review.keep", principal=principal, role="clerk", reason="still needed")
    with opened(site.home) as on:
        now = on.clock.now()
        assert "looked at" in health.reviewed(on.store, now)
        with pytest.raises(SystemFault, match="nobody has looked for a quarter"):
            health.reviewed(on.store, now + giving.REVIEW_EVERY + timedelta(minutes=1))
        with on.store.read() as connection:
            due = giving.overdue(connection, now + giving.REVIEW_EVERY - timedelta(minutes=1))
    assert (principal, "clerk") not in due


@pytest.mark.parametrize(
    ("asked", "code"),
    [({"role": "nothing", "reason": "why"}, "not-held"), ({"role": "clerk", "reason": " "}, "reason")],
)
def test_a_review_of_what_is_not_held_or_without_a_reason_is_refused(site, held, asked, code):
    for operation in ("review.keep", "review.remove"):
        with pytest.raises((CallerFault, OperatorFault)) as caught:
            site.ask(operation, principal=held[0], **asked)
        assert caught.value.code == code
