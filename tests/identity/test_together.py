"""What happens at the same moment, each on a connection of its own, on SQLite and on PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier

from sqlalchemy import select

from ostiary.foundation.errors import CallerFault
from ostiary.identity import keys, principals, registration, tokens
from ostiary.identity.credentials import digest, pepper
from ostiary.store.database import Sealer
from ostiary.store.tables import CLIENT_SECRET, ONE_TIME, PRINCIPAL, REFRESH, SIGNING_KEY

SEALER = Sealer(b"k" * 32)
AT = datetime(2026, 3, 3, 12, tzinfo=UTC)


def together(count, act):
    """The results, or what was raised, of `count` threads that start at one moment."""
    barrier = Barrier(count)

    def run(n):
        barrier.wait()
        try:
            return act(n)
        except Exception as problem:  # noqa: BLE001 - the test looks at it
            return problem

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_of_two_that_redeem_one_code_exactly_one_wins_and_the_grant_ends(world):
    for _ in range(5):
        world.gone.clear()
        code = world.code()
        answers = world.redeem(code, times=2)
        assert sorted(answer.status_code for answer in answers) == [200, 400]
        won = next(answer.json() for answer in answers if answer.status_code == 200)
        assert world.gone == [f"grant:{world.claims(won['access_token']).grant}"]
        assert world.refresh(won["refresh_token"]).status_code == 400


def test_of_three_that_refresh_one_token_two_get_the_same_successor_and_the_third_ends_the_grant(world):
    for _ in range(5):
        world.gone.clear()
        token = world.signed_in()["refresh_token"]
        answers = world.refresh(token, times=3)
        assert sorted(answer.status_code for answer in answers) == [200, 200, 400]
        successors = {answer.json()["refresh_token"] for answer in answers if answer.status_code == 200}
        assert len(successors) == 1
        assert len(set(world.gone)) == 1
        assert world.refresh(successors.pop()).status_code == 400


def test_of_two_that_refresh_one_token_both_go_on_with_one_successor(world):
    """Two tabs of one browser."""
    token = world.signed_in()["refresh_token"]
    answers = world.refresh(token, times=2)
    assert [answer.status_code for answer in answers] == [200, 200]
    (successor,) = {answer.json()["refresh_token"] for answer in answers}
    assert world.gone == []
    assert world.refresh(successor).status_code == 200
    with world.store.read() as connection:
        live = connection.execute(select(REFRESH.c.digest).where(REFRESH.c.superseded_at_s == 0)).all()
    assert len(live) == 1


def test_of_several_that_rotate_the_keys_exactly_one_does(world):
    world.later(seconds=keys.ACTIVE_S)
    changed = together(4, lambda _: world.do(keys.turn, sealer=world.sealer))
    assert sorted(changed) == [(), (), (), keys.PURPOSES]
    world.later(seconds=keys.PUBLISHED_S)
    rotated = together(4, lambda _: world.do(keys.rotate, sealer=world.sealer))
    assert sum(isinstance(one, str) for one in rotated) == 1
    assert {type(one) for one in rotated} == {str, CallerFault}
    with world.store.read() as connection:
        rows = connection.execute(select(SIGNING_KEY.c.purpose, SIGNING_KEY.c.state)).all()
    for purpose in keys.PURPOSES:
        for state in ("active", "next"):
            assert [tuple(row) for row in rows].count((purpose, state)) == 1


def test_servers_that_start_at_once_make_one_set_of_keys_and_one_pepper(store):
    def start(n):
        with store.begin() as connection:
            if n % 2:
                keys.ensure(connection, SEALER, AT)
            return digest(pepper(connection, SEALER), "x")

    assert len(set(together(6, start))) == 1
    with store.read() as connection:
        assert len(connection.execute(select(SIGNING_KEY)).all()) == 6


def test_changes_of_roles_at_once_refuse_every_older_generation(world):
    gone = together(5, lambda n: world.do(principals.set_roles, principal="user:anna", roles=[f"r{n}"]))
    assert sorted(gone) == [(f"gen:user:anna#{n}",) for n in range(1, 6)]
    with world.store.read() as connection:
        rows = connection.execute(select(PRINCIPAL.c.generation).where(PRINCIPAL.c.id == "user:anna"))
        assert rows.scalar_one() == 6


def test_a_name_is_given_once(world):
    made = together(4, lambda _: world.do(principals.add_user, login="ben", hashed="hash"))
    assert [one for one in made if not isinstance(one, CallerFault)] == ["user:ben"]


def test_no_more_than_two_secrets_live_however_they_are_made(world):
    for _ in range(5):
        made = together(4, lambda _: world.do(registration.rotate_secret, sealer=world.sealer, client_id="shop"))
        with world.store.read() as connection:
            assert len(connection.execute(select(CLIENT_SECRET)).all()) == 2
        given = [world.token(("shop", one.secret.reveal()), grant_type="client_credentials") for one in made]
        assert sum(answer.status_code == 200 for answer in given) in (1, 2)


def test_guesses_at_once_all_count(world):
    page = world.authorize()
    world.answer_at_once(8, page, password="guess guess guess", source="192.0.2.1")
    assert world.answer(page, source="192.0.2.1").status_code == 200


def test_the_journal_keeps_its_lines_whole(world):
    world.token_at_once(40, ("shop", "x" * 40), grant_type="client_credentials")
    lines = world.journal().splitlines()
    assert len(lines) == 40
    assert {(line[0], line[-1]) for line in lines} == {("{", "}")}


def test_forgetting_what_has_expired_disturbs_nobody(world):
    for _ in range(3):
        world.code()
    world.later(days=31)

    def purge(_):
        tokens.purge(world.store, int(world.clock.now().timestamp()))

    results = together(4, lambda n: purge(n) if n else world.signed_in())
    assert [one for one in results if isinstance(one, Exception)] == []
    with world.store.read() as connection:
        assert len(connection.execute(select(ONE_TIME)).all()) == 1
