"""What was used: of what the gate decided alone its event, of what the guard was asked about all that it was about."""

from datetime import timedelta

import msgspec
import pytest

from monitor.world import AT
from monitor.world import line as written
from ostiary.control.recorded import Used
from ostiary.event import search
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


def test_of_a_call_of_many_operations_each_was_used_and_none_twice(home):
    found = Used(home, AT - timedelta(hours=1))
    assert sorted(use.permission for use in found) == [READS, READS, WRITES]
    assert found.whole


def test_what_was_before_is_not_told_and_that_not_all_was_read_is(home, monkeypatch):
    assert list(Used(home, AT + timedelta(hours=2))) == []
    monkeypatch.setattr(search, "READ_MAX_BYTES", 1)
    rotated = home.guard_log.with_name("guard-20260303.jsonl")
    rotated.write_bytes(home.guard_log.read_bytes())
    found = Used(home, AT - timedelta(hours=1))
    assert [use.permission for use in found] == [READS, WRITES]  # of the newest file alone
    assert not found.whole
