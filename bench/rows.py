"""Ten million rows of tokens, and an installation that starts on them: beside the same one before they were there."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Final

from sqlalchemy import text
from tools.caller import Caller

from bench import shop
from bench.database import postgresql
from bench.figure import Figure, at_most, middle, plain
from bench.members import Inside, Member, enrolled
from bench.process import NotUp
from bench.rounds import Pace, Say
from bench.stand import new_home, standing, up
from ostiary.foundation.home import Home
from ostiary.store.database import connect

AREA: Final = "identity"
SIZE: Final = shop.Size(operations=10)
UPSTREAM: Final = "http://127.0.0.1:9"  # nobody asks it
ROWS: Final = 10_000_000
QUICK_ROWS: Final = 100_000
OFTEN: Final = 20
STARTS: Final = 3
SLOWER_MOST: Final = 1.5  # times; of two starts on one machine the second may take a third longer
# {n} of each: a grant has five refresh tokens, and four codes and proofs were shown for it. All live for a day more.
FILL: Final = (
    """INSERT INTO oauth_grant (id, client, principal, sid, audience, scopes, nonce, authenticated_at_s, expires_at_s,
    revoked, bound, amr) SELECT {grant}, 'client:web', 'user:u0', 'sid', 'https://erp', 'openid', '', {at}, {at} + 86400,
    {no}, '', 'pwd' FROM {numbers}""",
    """INSERT INTO oauth_refresh (digest, "grant", superseded_at_s, retried, expires_at_s)
    SELECT {digest}, {grant}, {at}, {no}, {at} + 86400 FROM {numbers}""",
    """INSERT INTO one_time (digest, client, "grant", facts, used, expires_at_s)
    SELECT {digest}, 'client:web', {grant}, '{{}}', {yes}, {at} + 86400 FROM {numbers}""",
)
SHARES: Final = (10, 50, 40)  # of a hundred rows


def measure(folder: Path, pace: Pace, say: Say) -> Iterator[Figure]:
    spec = folder / "shop.json"
    spec.write_text(shop.document(shop.described(SIZE)), "utf-8")
    text_ = shop.policy(SIZE, UPSTREAM).replace("  shop: {", "  erp: {")
    rows = ROWS if pace.samples >= 400 else QUICK_ROWS
    stores: dict[str, AbstractContextManager[str]] = {"SQLite": nullcontext(""), "PostgreSQL": postgresql()}
    for name, store in stores.items():
        with store as url, new_home() as home:
            with standing(home, text_, spec, store=url) as stand:
                (member,) = enrolled(stand, 1)
                port = int(stand.origin.rpartition(":")[2])
            empty = _started(home, port, member)
            began = time.perf_counter()
            (_fill_postgresql if url else _fill_sqlite)(url or str(home.database), rows)
            say(f"{name}: {rows:,} rows in {time.perf_counter() - began:.0f} s")
            before = _whole_reads(url)
            yield from _told(name, rows, empty, _started(home, port, member))
            if url:
                reads = _whole_reads(url) - before
                yield at_most(AREA, f"{name}: large tables read from end to end meanwhile", reads, "times", 0)


def _started(home: Home, port: int, member: Member) -> dict[str, float]:
    """Milliseconds until it is up, and of each act: the median of several."""
    starts = []
    for _ in range(STARTS - 1):
        began = time.perf_counter()
        with up(home, port):
            starts.append((time.perf_counter() - began) * 1000)
    began = time.perf_counter()
    with up(home, port) as stand:
        found = {"start": middle([*starts, (time.perf_counter() - began) * 1000])}
        caller = Inside(stand.home.socket("identity"))
        acts = {
            "sign-in": member.sign_in,
            "grant": member.grant,
            "refresh": member.refresh,
            "revocation": member.revoke,
        }
        for name, act in acts.items():
            found[name] = middle(_ms(act, caller) for _ in range(OFTEN))
        caller.close()
    return found


def _ms(act: Callable[[Caller], bool], caller: Caller) -> float:
    began = time.perf_counter()
    if not act(caller):
        raise NotUp(f"{act} is refused")
    return (time.perf_counter() - began) * 1000


def _told(store: str, rows: int, empty: dict[str, float], full: dict[str, float]) -> Iterator[Figure]:
    for name, before in empty.items():
        yield plain(AREA, f"{store}: {name}, empty", before, "ms")
        yield plain(AREA, f"{store}: {name}, {rows:,} rows of tokens", full[name], "ms")
    slower = full["start"] / empty["start"]
    yield at_most(AREA, f"{store}: start on {rows:,} rows in that on an empty store", slower, "times", SLOWER_MOST)


def _statements(rows: int, numbers: str, grant: str, **words: str) -> Iterator[str]:
    """All three in the order of their keys: to put each row into the middle of an index would take hours."""
    for statement, share in zip(FILL, SHARES, strict=True):
        words |= {"grant": grant.format(each=share // SHARES[0]), "numbers": numbers.format(count=rows * share // 100)}
        yield statement.format(**words, at=int(time.time()))


def _fill_sqlite(file: str, rows: int) -> None:
    numbers = "(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {count}) SELECT i FROM n)"
    words = {"grant": "printf('gr-%032x', i / {each})", "digest": "printf('%064x', i)", "no": "0", "yes": "1"}
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for statement in _statements(rows, numbers, **words):
            connection.execute(statement)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _fill_postgresql(url: str, rows: int) -> None:
    words = {"grant": "'gr-' || lpad(to_hex(i / {each}), 32, '0')", "digest": "lpad(to_hex(i), 64, '0')"}
    engine = connect(url)
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("SET session_replication_role = replica"))  # what a row points at is not looked up
        for statement in _statements(rows, "generate_series(0, {count} - 1) i", no="false", yes="true", **words):
            connection.execute(text(statement.replace(":", "\\:")))
        connection.execute(text("VACUUM ANALYZE"))  # as it does by itself in the minutes after
        connection.execute(text("CHECKPOINT"))
    engine.dispose()


def _whole_reads(url: str) -> int:
    """How often PostgreSQL has read one of the three tables whole, and used no index."""
    if not url:
        return 0
    engine = connect(url)
    seen = "SELECT sum(seq_scan) FROM pg_stat_user_tables WHERE relname IN ('oauth_grant', 'oauth_refresh', 'one_time')"
    with engine.connect() as connection:
        found = int(connection.execute(text(seen)).scalar_one())
    engine.dispose()
    return found
