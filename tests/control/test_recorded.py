"""What was used: of what the gate decided alone its event, of what the guard was asked about all that it was about."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from monitor.world import AT
from monitor.world import line as written
from ostiary.control import evidence
from ostiary.control.evidence import Used
from ostiary.event import record
from ostiary.foundation.home import Home
from ostiary.guard.journal import Line

READS, WRITES = "erp/party.party:read", "erp/party.party:write"


@pytest.fixture
def home(tmp_path):
    made = Home(root=tmp_path)
    made.create()
    made.access_log.write_bytes(written(operation=READS) + written(operation=READS, decision="d-2", guard_us=900))
    line = Line(
        at=AT.isoformat(), decision="d-2", revision="", system="erp", subject="user:anna", client="", here={},
        role_set="rs", scopes=(), person="", erp_user="", operations=(READS, WRITES), whole=True, records=(),
        reason="allowed", rule="", detail="", us=900,
    )  # fmt: skip
    refused = msgspec.structs.replace(line, decision="d-3", reason="role")
    made.guard_log.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in (line, refused)) + b"{half\n")
    return made


def did(found):
    return [operation.permission for one in found for operation in one.facts.operations]


def used(home, *, hours=-1):
    return Used(home, AT + timedelta(hours=hours), {"rs": frozenset({"clerk"})})


def test_of_a_call_of_many_operations_each_was_used_and_none_twice(home):
    found = used(home)
    assert did(found) == [READS, READS, WRITES]
    assert [one.facts.roles for one in found] == [frozenset(), {"clerk"}]
    assert found.whole


def test_of_a_call_of_more_operations_than_are_kept_it_is_told_that_it_was_more(home):
    text = home.guard_log.read_bytes()
    home.guard_log.write_bytes(text.replace(b'"whole":true', b'"whole":false', 2))
    found = used(home)
    assert did(found) == [READS, READS, WRITES]
    assert not found.whole
    assert [found.whole_of(one) for one in ("user:anna", "user:ben")] == [False, True]
    allowed, refused, _ = text.splitlines(keepends=True)
    home.guard_log.write_bytes(allowed + refused.replace(b'"whole":true', b'"whole":false'))  # of no concern
    found = used(home)
    assert did(found) == [READS, READS, WRITES]
    assert found.whole


def test_a_line_that_names_no_address_is_left_out(home):
    home.access_log.write_bytes(written(operation=WRITES, source="/run/socket") + written(operation=READS))
    home.guard_log.unlink()
    assert did(used(home)) == [READS]


@pytest.mark.standard("B8")
def test_what_is_unusual_is_found_among_all_operations_of_a_call(home):
    """The gate's own event names the first of them alone."""
    home.settings.touch()
    now, text = datetime.now(UTC), home.guard_log.read_bytes().splitlines()[0]
    line = msgspec.json.decode(text, type=Line)
    days = [
        msgspec.structs.replace(line, at=(now - timedelta(days=n)).isoformat(), operations=(READS,)) for n in (3, 2, 1)
    ]
    days.append(msgspec.structs.replace(line, at=now.isoformat(), decision="d-9", operations=(READS, WRITES)))
    home.guard_log.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in days))
    home.access_log.write_bytes(b"")
    told = evidence.usage(home)
    assert [(one["what"], one["value"], one["decision"]) for one in told["unusual"]] == [("operation", WRITES, "d-9")]
    assert told["whole"]


def test_what_was_before_is_not_told_and_that_not_all_was_read_is(home, monkeypatch):
    assert did(used(home, hours=2)) == []
    monkeypatch.setattr(record, "READ_MAX_BYTES", 1)
    rotated = home.guard_log.with_name("guard-20260303.jsonl")
    rotated.write_bytes(home.guard_log.read_bytes())
    found = used(home)
    assert did(found) == [READS, READS, WRITES]  # of the newest file of each alone
    assert not found.whole_of("user:ben")
