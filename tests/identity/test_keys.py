"""Signing keys turn over without anybody seeing a token whose key he does not know."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from ostiary.audit.log import entries
from ostiary.foundation.errors import CallerFault, SystemFault
from ostiary.foundation.jose import TokenRefused, verify_access_token
from ostiary.identity import keys, registration
from ostiary.store.directory import access_keys
from ostiary.store.tables import SIGNING_KEY


def published(world):
    return {key["kid"] for key in world.ask("GET", "/identity/jwks").json()["keys"]}


def at_gate(world):
    with world.store.read() as connection:
        return access_keys(connection)


def signs(world, purpose="access"):
    with world.store.read() as connection:
        return keys.active_kids(connection)[purpose]


def turn(world):
    return world.do(keys.turn, sealer=world.sealer)


def rotate(world, **told):
    return world.do(keys.rotate, sealer=world.sealer, **told)


def test_a_key_turns_after_thirty_days_and_the_next_was_published_before(world):
    before, known = signs(world), published(world)
    world.later(seconds=keys.ACTIVE_S - 1)
    assert turn(world) == ()
    world.later(seconds=1)
    assert turn(world) == keys.PURPOSES
    assert signs(world) in known
    assert signs(world) != before
    assert before in published(world)
    assert turn(world) == ()
    world.later(seconds=keys.RETIRING_S)
    assert turn(world) == keys.PURPOSES
    assert before not in published(world)
    with world.store.read() as connection:
        told = {"key.rotate": set(), "key.retire": set()}
        for one in entries(connection, limit=6):
            told[one["action"]].add(one["object"])
    assert told == {action: set(keys.PURPOSES) for action in told}


def test_a_client_that_keeps_the_keys_for_a_day_knows_the_one_of_every_token(world):
    """By the clock, through four rotations; what it fetches may be an hour old already, by what we say ourselves."""
    seen, shown, fetched = set(), [published(world)] * 2, []
    told = world.ask("GET", "/identity/jwks").headers["cache-control"]
    assert told == f"public, max-age={keys.JWKS_LIFE_S}"
    for hour in range(24 * 125):
        turn(world)
        shown = [shown[-1], published(world)]
        if hour % 24 == 0:
            fetched = shown[0]
        assert {signs(world, purpose) for purpose in keys.PURPOSES} <= fetched
        seen.add(signs(world))
        world.later(hours=1)
    assert len(seen) == 5


def test_a_running_server_signs_with_the_new_key_at_once(world):
    world.machine()
    world.later(seconds=keys.ACTIVE_S)
    turn(world)
    token = world.machine().json()["access_token"]
    assert world.claims(token).subject == "client:shop"
    world.later(seconds=60)
    with world.store.begin() as connection:  # and never with one that went
        connection.execute(SIGNING_KEY.delete().where(SIGNING_KEY.c.state == "retiring"))
    assert world.claims(world.machine().json()["access_token"]).subject == "client:shop"


def test_tokens_signed_before_a_turn_are_good_until_they_end(world):
    token = world.machine().json()["access_token"]
    world.later(minutes=59)
    rotate_when_known(world)
    world.claims(token)


def rotate_when_known(world):
    with world.store.begin() as connection:
        connection.execute(SIGNING_KEY.update().values(since_us=0))
    return rotate(world)


def test_what_signs_for_one_request_does_not_depend_on_what_another_saw(world):
    server = world.app.state.server
    with world.store.read() as older:
        before = server.signing(older)
        kids = {purpose: key.kid for purpose, key in before.items()}
        rotate(world, compromised=True)
        with world.store.read() as newer:
            after = server.signing(newer)
            assert server.signing(older)["access"].kid == kids["access"]
            assert after["access"].kid == signs(world) != kids["access"]
            assert server.signing(newer)["access"].kid == signs(world)
    assert {purpose: key.kid for purpose, key in before.items()} == kids


def test_the_next_key_is_not_used_before_everybody_can_know_it(world):
    with pytest.raises(CallerFault, match="clients may not know it") as raised:
        rotate(world)
    assert "try again at 2026-03-04T13:00:00.000Z" in raised.value.hint  # 25 hours after it was made
    world.later(seconds=keys.PUBLISHED_S)
    rotate(world)
    with pytest.raises(CallerFault, match="clients may not know it"):
        rotate(world)


def test_a_compromised_key_goes_at_once_and_every_token_of_it(world):
    told, before = world.signed_in(), signs(world)
    kid = rotate(world, compromised=True)
    assert before not in published(world)
    assert kid in published(world)
    with pytest.raises(TokenRefused):
        world.claims(told["access_token"])
    after = world.refresh(told["refresh_token"]).json()
    assert world.claims(after["access_token"]).subject == "user:anna"
    assert signs(world, "id") != kid


def test_access_id_and_logout_tokens_never_share_a_key(world):
    world.later(seconds=keys.ACTIVE_S)
    turn(world)
    with world.store.read() as connection:
        rows = connection.execute(select(SIGNING_KEY.c.kid, SIGNING_KEY.c.purpose, SIGNING_KEY.c.state)).all()
    assert len({row.kid for row in rows}) == len(rows) == 9
    assert {key["kid"] for key in at_gate(world)["keys"]} == {row.kid for row in rows if row.purpose == "access"}


def test_a_private_key_lies_sealed_and_opens_for_its_purpose_only(world):
    with world.store.read() as connection:
        rows = connection.execute(select(SIGNING_KEY)).all()
    for row in rows:
        assert b'"d"' not in bytes(row.sealed_private)
        assert '"d"' not in row.public_jwk
        other = "id" if row.purpose == "access" else "access"
        assert world.sealer.open(row.sealed_private, f"signing-key:{row.purpose}")
        with pytest.raises(Exception, match="does not open"):
            world.sealer.open(row.sealed_private, f"signing-key:{other}")


def test_without_a_key_the_server_says_so_and_gives_nothing(world):
    with world.store.begin() as connection:
        connection.execute(SIGNING_KEY.delete())
    assert world.machine().status_code == 503
    with pytest.raises(SystemFault, match="no active key"):
        signs(world)


@given(
    st.lists(
        st.tuples(st.sampled_from(["turn", "rotate", "compromised", "refresh gate"]), st.integers(0, 40 * 24)),
        max_size=12,
    )
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_happens_in_whatever_order_the_gate_knows_the_key_that_signs(sqlite_world, steps):
    """The gate holds what it was brought last: after each turn or rotation, as control does, and at a start."""
    world = sqlite_world
    world.do(
        registration.change_client, sealer=world.sealer, client_id="shop", days=registration.DAYS_MAX
    )  # the same one each time
    gate, client, fetched = at_gate(world), published(world), world.clock.at
    for act, hours in steps:
        world.later(hours=hours)
        try:
            if act == "turn":
                turn(world)
            elif act != "refresh gate":
                rotate(world, compromised=act == "compromised")
        except CallerFault:
            pass
        else:
            gate = at_gate(world)
        if world.clock.at - fetched >= timedelta(seconds=keys.KEPT_S) or act == "compromised":
            client, fetched = published(world), world.clock.at  # an unknown kid makes a client ask again
        token = world.machine().json()["access_token"]
        issuer, audience = world.settings.issuer, world.audience
        verify_access_token(token, gate, issuer=issuer, audience=audience, now=world.clock.now())
        assert signs(world) in client
