"""Who hangs up while the ERP is at work on a record has not ended it: the record stays held, through the real gate."""

import json
import socket
import threading

import msgspec
import pytest

from guard_world import POLICY, rpc, small_catalogue
from ostiary.event.record import Filter, find
from running import APART, installed, until

pytestmark = APART
WRITE = rpc("model.account.payment.write", [1], {"amount": 1})
APPROVE = rpc("model.account.payment.approve", [1])


class SlowErp:
    """Lets everybody in, and writes for as long as it is told to."""

    def __init__(self):
        self.go, self.writing = threading.Event(), threading.Event()
        self.go.set()

    def reply(self, seen):
        method = json.loads(seen["body"] or "{}").get("method", "")
        if method.endswith(".write"):
            self.writing.set()
            assert self.go.wait(60)
        return 200, {}, json.dumps({"id": 1, "result": [5, "session"] if method == "common.db.login" else None})


@pytest.fixture(scope="module")
def place():
    """(a gate before it, the ERP)."""
    erp = SlowErp()
    with installed() as site:
        site.upstream.reply = erp.reply
        site.start()
        site.home.catalogue("erp").write_bytes(msgspec.json.encode(small_catalogue()))
        site.apply(POLICY.replace("UPSTREAM", f"http://127.0.0.1:{site.upstream.server_port}"))
        try:
            yield site, erp
        finally:
            erp.go.set()


@pytest.fixture(scope="module")
def token(place):
    site, _ = place
    made = site.client("anna", "payments")
    site.ask("account.set", principal="client:anna", system="erp", login="anna", password="hers")
    return made


def send(caller, request):
    return caller.send(request.method, request.path, request.body)


def test_what_was_answered_lets_the_record_go(place, token):
    site, _ = place
    caller = site.caller(token)
    assert send(caller, WRITE).status == 200
    assert send(caller, APPROVE).reason == "apart", "it is judged, and the ERP does not say who made it"


def given_up(caller):
    with pytest.raises(OSError):
        send(caller, WRITE)


def test_who_hangs_up_during_a_long_write_does_not_get_the_record_for_an_approval(place, token):
    site, erp = place
    erp.go.clear()
    erp.writing.clear()
    caller, other = site.caller(token), site.caller(token)
    writing = threading.Thread(target=given_up, args=(caller,))
    writing.start()
    assert erp.writing.wait(20)
    caller._connection.sock.shutdown(socket.SHUT_RDWR)
    writing.join()
    until(lambda: any("DC" in one.flags for one in find(site.home.access_log, Filter(), site.home.identity_log)))
    refused = send(other, APPROVE)
    assert (refused.status, refused.reason) == (503, "unavailable")
    assert "has not ended" in refused.json()["detail"]
