"""A store opens at the newest version or says why not; transactions keep what they promise."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, inspect, text

import ostiary.store.tables  # noqa: F401 - registers every table
from ostiary.foundation.errors import OperatorFault, SystemFault
from ostiary.store import database, migrations
from ostiary.store.database import METADATA, VERSION, connect, open_store, take_turns


@pytest.fixture
def empty_url(databases, database_kind):
    with databases.one(database_kind, empty=True) as url:
        yield url


def say(url, statement):
    engine = connect(url)
    with engine.connect() as connection:
        connection.execute(text(statement))
        connection.commit()
    engine.dispose()


def tables(url):
    engine = connect(url)
    found = set(inspect(engine).get_table_names())
    engine.dispose()
    return found


def test_a_new_store_has_exactly_the_tables_the_code_knows(empty_url):
    store = open_store(empty_url)
    with store.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, METADATA) == []
        assert set(inspect(connection).get_table_names()) == {*METADATA.tables, "alembic_version"}
    store.close()


def test_the_version_in_the_code_is_that_of_the_last_migration():
    config = Config()
    config.set_main_option("script_location", next(iter(migrations.__path__)))
    assert ScriptDirectory.from_config(config).get_heads() == [VERSION]


def test_a_store_up_to_date_is_asked_one_question_and_alembic_is_not_imported(database_url):
    code = (
        "import sys; from sqlalchemy import event; from sqlalchemy.engine import Engine\n"
        "from ostiary.store.database import open_store\n"
        "said = []\n"
        "event.listen(Engine, 'before_cursor_execute', lambda *given: said.append(given[2]))\n"
        f"open_store({database_url!r}).close()\n"
        "print([one for one in said if 'BEGIN' not in one], 'alembic' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert told.strip() == "['SELECT version_num FROM alembic_version'] False"


def test_processes_that_open_a_new_store_at_once_all_get_it(empty_url):
    code = f"from ostiary.store.database import open_store; open_store({empty_url!r}).close()"
    running = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(3)]
    assert [(one.communicate()[1], one.returncode) for one in running] == [(b"", 0)] * 3


def test_threads_that_open_a_new_store_at_once_all_get_it(empty_url):
    problems = []

    def open_and_close():
        try:
            open_store(empty_url).close()
        except BaseException as problem:  # noqa: BLE001 - shown below
            problems.append(problem)

    threads = [threading.Thread(target=open_and_close) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_a_migration_that_fails_leaves_nothing_behind(empty_url):
    engine = connect(empty_url)

    @event.listens_for(engine, "before_cursor_execute")
    def fail_late(_connection, _cursor, statement, *_rest):
        if "CREATE TABLE oauth_refresh" in statement:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        migrations.migrate(engine)
    engine.dispose()
    assert tables(empty_url) == set()
    open_store(empty_url).close()


def test_a_store_from_before_the_first_release_is_refused_and_left_alone(database_url):
    say(database_url, "UPDATE alembic_version SET version_num = '0003'")
    with pytest.raises(OperatorFault, match=r"0003: it was made before anything was released"):
        open_store(database_url)


def test_a_store_of_a_newer_ostiary_is_refused_and_left_alone(database_url):
    say(database_url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(OperatorFault, match=r"newer Ostiary.*9999") as caught:
        open_store(database_url)
    assert "backup" in caught.value.hint
    say(database_url, f"UPDATE alembic_version SET version_num = '{VERSION}'")
    open_store(database_url).close()


def test_a_database_of_somebody_else_is_refused_and_left_alone(empty_url):
    say(empty_url, "CREATE TABLE invoices (id INTEGER)")
    with pytest.raises(OperatorFault, match="invoices"):
        open_store(empty_url)
    assert tables(empty_url) == {"invoices"}


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "a.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(SystemFault, match=r"damaged.*not a database") as caught:
        open_store(f"sqlite:///{tmp_path}/a.db")
    assert "restore" in caught.value.hint


@given(st.integers(0, 60_000), st.binary(min_size=1, max_size=4096), st.booleans())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_damaged_file_opens_or_gives_one_clear_message(databases, at, damage, cut):
    with databases.one("sqlite") as url:
        path = url.removeprefix("sqlite:///")
        with open(path, "r+b") as file:  # noqa: PTH123
            file.seek(at)
            file.write(damage)
            if cut:
                file.truncate()
        try:
            open_store(url).close()
        except (SystemFault, OperatorFault) as problem:
            assert problem.hint  # noqa: PT017 - not raising is fine too


def test_an_unreachable_server_is_named_without_its_password():
    with pytest.raises(SystemFault) as caught:
        open_store("postgresql+psycopg://me:hunter2-secret@127.0.0.1:1/none")
    assert "127.0.0.1" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["nonsense", "mysql+nothing://x/y", "postgresql+hunter2://a:hunter2@b/c", ""])
def test_an_address_of_no_database_is_refused_without_repeating_it(url):
    with pytest.raises(OperatorFault) as caught:
        open_store(url)
    assert caught.value.code == "store-url"
    assert "hunter2" not in str(caught.value)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(SystemFault, match="does not open"):
        open_store(f"sqlite:///{tmp_path}/missing/a.db")


def test_the_files_of_sqlite_are_private(tmp_path):
    store = open_store(f"sqlite:///{tmp_path}/a.db")
    with store.begin() as connection:
        connection.execute(text("DELETE FROM audit_tree"))
        assert {path.name: path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == dict.fromkeys(
            ("a.db", "a.db-wal", "a.db-shm"), 0
        )
    store.close()


def test_what_raises_leaves_nothing(store):
    def fail():
        with store.begin() as connection:
            connection.execute(text("INSERT INTO role_set (id, roles) VALUES ('a', 'b')"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with store.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM role_set")).scalar() == 0


def test_a_reader_does_not_wait_for_a_writer_and_sees_one_moment(store):
    with store.begin() as writing, store.read() as reading:
        writing.execute(text("INSERT INTO role_set (id, roles) VALUES ('a', 'b')"))
        assert reading.execute(text("SELECT count(*) FROM role_set")).scalar() == 0


def test_who_takes_turns_never_overlaps(store):
    """Each reads, then writes one more: without turns two would read the same number."""
    with store.begin() as connection:
        connection.execute(text("INSERT INTO role_set (id, roles) VALUES ('count', '0')"))

    def add():
        for _ in range(10):
            with store.begin() as connection:
                take_turns(connection, "count")
                now = int(connection.execute(text("SELECT roles FROM role_set")).scalar())
                connection.execute(text("UPDATE role_set SET roles = :next"), {"next": str(now + 1)})

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as connection:
        assert connection.execute(text("SELECT roles FROM role_set")).scalar() == "40"


def beside(work):
    """A writer in a thread of its own; what came of it."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).exception()


def write(store):
    with store.begin() as connection:
        connection.execute(text("INSERT INTO role_set (id, roles) VALUES ('a', 'b')"))


def test_a_connection_that_was_cut_while_it_rested_is_replaced(databases, monkeypatch):
    monkeypatch.setattr(database, "ASK_AFTER_S", -1.0)
    with databases.one("postgresql") as url, closing(open_store(url)) as store, closing(open_store(url)) as other:
        with store.read() as connection:
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with other.begin() as connection:
            assert connection.exec_driver_sql(f"SELECT pg_terminate_backend({pid}, 5000)").scalar_one()
        with store.read() as connection:
            assert connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() != pid


def test_writers_of_one_process_take_turns_without_asking_the_database(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 0)  # whoever asks while another writes is refused
    store, waiting = open_store(f"sqlite:///{tmp_path}/a.db"), threading.Event()

    def second():
        waiting.set()
        write(store)

    with ThreadPoolExecutor(1) as thread:
        with store.begin():
            done = thread.submit(second)
            assert waiting.wait(10)
            assert store._turn.locked()
        assert done.exception() is None
    store.close()


def test_a_writer_whose_turn_does_not_come_is_told_and_the_next_one_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "TURN_TIMEOUT_S", 0.001)
    store = open_store(f"sqlite:///{tmp_path}/a.db")
    with store.begin():
        assert beside(lambda: write(store)).code == "store-busy"
    assert beside(lambda: write(store)) is None
    store.close()
