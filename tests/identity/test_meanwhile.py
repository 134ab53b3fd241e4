"""What happens while a person signs in counts: a session or a grant is never made from what was true before."""

import pytest
from sqlalchemy import insert

from ostiary.audit.log import Change
from ostiary.identity import factors, principals, session
from ostiary.store.database import Sealer
from ostiary.store.tables import FACTOR


@pytest.fixture
def meanwhile(world, monkeypatch):
    """Carries out an act after the password was found right, and before anything is made of it."""

    def during(act):
        right = session.password_matches

        def matches(*given):
            found = right(*given)
            with world.store.begin() as connection:
                act(Change(connection, "uid:0", world.clock.now()))
            return found

        monkeypatch.setattr(session, "password_matches", matches)

    return during


def disabled_and_enabled(change):
    principals.disable(change, principal="user:anna")
    principals.enable(change, sealer=Sealer(b"k" * 32), principal="user:anna")


def another_password(change):
    principals.set_password(change, sealer=Sealer(b"k" * 32), login="anna", hashed="another")


def another_factor(change):
    row = {"id": "totp_1", "principal": "user:anna", "kind": factors.TOTP, "name": "phone", "sealed": b"", "counter": 0}
    change.connection.execute(insert(FACTOR), {**row, "made_at_us": 0, "used_at_us": 0})


@pytest.mark.parametrize("act", [disabled_and_enabled, another_password, another_factor])
def test_no_session_outlives_the_change_that_was_to_end_it(world, meanwhile, act):
    meanwhile(act)
    assert "code=" not in world.answer(world.authorize()).headers.get("location", "")


def test_a_session_that_ended_while_the_form_was_open_gives_no_code(world, monkeypatch):
    world.signed_in()
    monkeypatch.setattr(session, "in_force", lambda *_: False)
    assert "code=" not in world.answer(world.authorize()).headers.get("location", "")
