"""Devices: who is registered for whom, and what a token says of the connection that it was issued over."""

import pytest

from ostiary.audit.log import entries
from ostiary.foundation.errors import CallerFault
from ostiary.identity import principals
from ostiary.store.directory import devices as registered

OURS, ANNAS, OTHERS = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture
def known(world):
    world.do(principals.add_device, name="kiosk", principal="", fingerprint=OURS)
    world.do(principals.add_device, name="laptop", principal="user:anna", fingerprint=ANNAS)
    return world


def claimed(world, fingerprint, **form):
    answer = world.ask(
        "POST", "/identity/token", data={"grant_type": "client_credentials", **form}, auth=("shop", world.secret),
        headers={"x-gw-device": fingerprint} if fingerprint else {},
    )  # fmt: skip
    return world.claims(answer.json()["access_token"]).device


def test_a_token_says_from_which_registered_device_it_was_asked_for(known):
    assert [claimed(known, one) for one in (OURS, ANNAS, OTHERS, "-", "")] == [OURS, "", "", "", ""]


def test_a_persons_token_is_of_the_device_that_redeems_and_each_refresh_asks_again(known):
    def ask(fingerprint, **form):
        return known.ask("POST", "/identity/token", data={"client_id": "web", **form}, headers={"x-gw-device": fingerprint}).json()  # fmt: skip

    code = known.code()
    form = {"grant_type": "authorization_code", "redirect_uri": known.back, "code_verifier": known.verifier}
    told = ask(ANNAS, code=code, **form)
    assert known.claims(told["access_token"]).device == ANNAS
    again = ask(OTHERS, grant_type="refresh_token", refresh_token=told["refresh_token"])
    assert known.claims(again["access_token"]).device == ""


def test_what_is_done_with_devices_is_recorded_and_what_can_t_be_is_refused(known):
    for wrong in ({"name": "kiosk", "principal": ""}, {"name": "x", "principal": "user:nobody"}, {"name": "a b", "principal": ""}):  # fmt: skip
        with pytest.raises(CallerFault):
            known.do(principals.add_device, fingerprint=OTHERS, **wrong)
    known.do(principals.remove_device, name="kiosk")
    with pytest.raises(CallerFault, match="there is no device kiosk"):
        known.do(principals.remove_device, name="kiosk")
    with known.store.read() as connection:
        told = [(one["action"], one["object"]) for one in entries(connection, limit=3)]
        assert registered(connection) == {ANNAS: "user:anna"}
    assert told == [("device.remove", "device:kiosk"), ("device.add", "device:laptop"), ("device.add", "device:kiosk")]
    assert claimed(known, OURS) == ""


def test_the_devices_of_a_principal_go_with_it(known):
    known.do(principals.remove, principal="user:anna")
    with known.store.read() as connection:
        assert registered(connection) == {OURS: ""}
