"""Lines of an access log as the gate writes them, and the events they are."""

import json
from datetime import UTC, datetime, timedelta
from itertools import count

from sqlalchemy import select

from lines import written
from ostiary.event.record import read
from ostiary.monitor.alerts import WEBHOOK
from ostiary.store.tables import OUTBOX

AT = datetime(2026, 3, 3, 10, tzinfo=UTC)
NUMBER = count()


def line(seconds: float = 0.0, **facts) -> bytes:
    """One request that began `seconds` after `AT`: an allowed one, but for `facts`. It ends with a newline."""
    at = AT + timedelta(seconds=seconds)
    told = {
        "agent": "httpx", "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"), "bytes_in": 100,
        "bytes_out": 900, "client": "shop", "decision": f"gate-0-{next(NUMBER)}", "details": "via_upstream",
        "duration_ms": 20, "flags": "-", "grant": "gr-1", "guard_us": None, "method": "POST", "node": "gate",
        "operation": "erp/sale.sale:read", "path": "/acme/rpc/", "reason": "allowed", "revision": "r1",
        "role_set": "rs1", "rule": "clerk/1", "source": "203.0.113.9", "status": 200, "subject": "client:shop",
        "system": "erp", "tls": "TLSv1.3", "upstream_us": 12_000, "passed_us": 300, **facts,
    }  # fmt: skip
    if facts.get("operation", "-") != "-" and "system" not in facts:
        del told["system"]  # it is told by the operation
    return written(**told)


def event(seconds: float = 0.0, **facts):
    return read(line(seconds, **facts))


def guess(seconds: float = 0.0, **facts):
    """A request with a wrong token."""
    return event(seconds, **{**WRONG, **facts})


WRONG = {"status": 401, "reason": "token-invalid", "client": "-", "subject": "-", "operation": "-", "duration_ms": 0}
NAMELESS = {"status": 401, "reason": "token-missing", "client": "-", "subject": "-", "operation": "-", "duration_ms": 0}
SECRET = {"status": 401, "reason": "credential-invalid", "system": "-", "operation": "-", "client": "-", "subject": "-"}
IDENTITY = {"system": "-", "operation": "-", "client": "-", "subject": "-", "duration_ms": 0}  # answered by identity


def after(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def notices(store):
    """What waits to be told outside, the oldest first."""
    with store.read() as connection:
        waiting = select(OUTBOX.c.body).where(OUTBOX.c.receiver == WEBHOOK).order_by(OUTBOX.c.id)
        return [json.loads(body) for body in connection.scalars(waiting)]
