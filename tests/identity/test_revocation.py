"""Whatever is taken back, and by whomever: the gate refuses it on connections that are open, and refuses nothing else."""

from types import SimpleNamespace

import pytest
from tools.caller import basic, sign_in

from ostiary.foundation.secret import Secret
from running import APART, installed, until

pytestmark = APART
BACK = "http://127.0.0.1/back"
PASSWORD = "a long one, of many words"
WAYS = (("GET", "/shop/stock", b""), ("POST", "/shop/orders", b'{"lines": []}'))  # natively, and by the guard


@pytest.fixture(scope="module")
def place():
    """An own one: of a compromised key every token goes. Control does not look by itself: whoever takes back tells it."""
    with installed() as one:
        one.start("members.HEAR_EVERY_S = members.CATCH_UP_EVERY_S = 3600.0")
        one.ask("client.add", client_id="till", auth="none", redirects=[BACK])
        yield one


@pytest.fixture
def person(place, request):
    """Signed in at a till, with what was given; and a machine."""
    login = f"p{abs(hash(request.node.name))}"
    place.ask("user.add", login=login, password=PASSWORD, roles=["clerk"])
    browser = place.caller()
    told = sign_in(browser, "till", BACK, login, Secret(PASSWORD), "openid shop/*:read shop/*:write")
    machine = place.client(f"m{login}", "clerk")
    return SimpleNamespace(login=login, browser=browser, told=told, machine=machine, id=f"user:{login}")


def event(place, caller):
    """What the log says of the caller's last request."""
    decision = caller.send("GET", "/shop/stock").decision
    return place.ask("explain", decision=decision)["event"]


def by_its_client(place, person, _):
    caller = place.caller()
    answer = caller.form("/identity/revoke", client_id="till", token=person.told["access_token"])
    assert answer.status == 200


def by_its_grant(place, _, caller):
    place.ask("token.revoke", grant=event(place, caller)["grant"])


def by_signing_out(place, person, _):
    answer = place.caller().send("GET", f"/identity/logout?id_token_hint={person.told['id_token']}")
    assert answer.status == 303


def by_disabling(place, person, _):
    place.ask("principal.disable", principal=person.id)


def by_removing(place, person, _):
    place.ask("principal.remove", principal=person.id)


def by_the_client_it_was_given_to(place, _person, _):
    place.ask("principal.disable", principal="client:till")


def by_a_new_generation(place, person, _):
    place.ask("token.revoke", principal=person.id)


def by_another_role(place, person, _):
    place.ask("principal.roles", principal=person.id, roles=["clerk", "visitor"])


def by_another_password(place, person, _):
    place.ask("user.password", login=person.login, password=f"{PASSWORD} and more")


def by_a_refresh_token_that_comes_twice(place, person, _):
    caller, form = place.caller(), {"grant_type": "refresh_token", "client_id": "till"}
    renewed = caller.form("/identity/token", **form, refresh_token=person.told["refresh_token"]).json()
    caller.form("/identity/token", **form, refresh_token=renewed["refresh_token"])
    answer = caller.form("/identity/token", **form, refresh_token=person.told["refresh_token"])
    assert answer.json()["error"] == "invalid_grant"


def by_an_emergency_that_begins(place, person, _):
    place.ask("break-glass.start", principal=person.id, role="elsewhere", minutes=5, reason="a flood in the archive")


def by_the_key(place, _person, _):
    place.ask("key.rotate", compromised=True, reason="a backup was stolen")


ONE = {
    "token": by_its_client, "grant": by_its_grant, "replayed refresh token": by_a_refresh_token_that_comes_twice,
    "session": by_signing_out, "user": by_disabling, "removed user": by_removing, "epoch": by_a_new_generation,
    "role change": by_another_role, "password": by_another_password, "emergency": by_an_emergency_that_begins,
    "client": by_the_client_it_was_given_to, "key": by_the_key,
}  # fmt: skip


@pytest.mark.standard("A5")
@pytest.mark.parametrize("kind", ONE)
def test_it_is_refused_natively_and_by_the_guard_and_nothing_else_is(place, person, kind):
    caller, other = place.caller(person.told["access_token"]), place.caller(person.machine)

    def reasons(token):
        return [place.once(*way, token=token).reason for way in WAYS]

    assert [place.once(*way, token=token).status for way in WAYS for token in (caller.token, other.token)] == [200] * 4
    assert caller.send(*WAYS[0]).status == other.send(*WAYS[0]).status == 200
    ONE[kind](place, person, caller)
    reason = "token-invalid" if kind == "key" else "token-revoked"
    until(lambda: caller.send(*WAYS[0]).reason == reason)  # on the connection that was open
    assert reasons(caller.token) == [reason] * 2
    assert other.send(*WAYS[0]).status == (401 if kind == "key" else 200)
    if kind != "key":
        assert [place.once(*way, token=other.token).status for way in WAYS] == [200, 200]
    if kind == "client":
        place.ask("principal.enable", principal="client:till")


@pytest.mark.standard("A5")
def test_what_a_machine_was_given_goes_with_it_and_what_it_is_given_later_is_good(place, person):
    name, way = f"m{person.login}", WAYS[0]
    caller = place.caller(person.machine)
    assert caller.send(*way).status == 200
    place.ask("token.revoke", principal=f"client:{name}")
    until(lambda: caller.send(*way).reason == "token-revoked")
    assert place.once(*way, token=place.fresh(name)).status == 200
    place.ask("principal.disable", principal=f"client:{name}")
    form = {"grant_type": "client_credentials"}
    answer = place.caller().form("/identity/token", basic=basic(name, place.secrets[name]), **form)
    assert answer.json()["error"] == "invalid_client"
