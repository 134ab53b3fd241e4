"""From the revocation of a token, by whatever it can be taken back, to the first refusal on a connection that was open."""

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec
from tools.caller import Caller, sign_in

from bench import shop, upstream
from bench.figure import Figure, at_most, middle, percentile, plain
from bench.members import BACK, PASSWORD, WEB
from bench.process import NotUp
from bench.rounds import Pace, Say
from bench.stand import Client, Stand, new_home, standing
from ostiary.control.installation import open_installation
from ostiary.control.prepare import edge_of
from ostiary.envoy import daemon
from ostiary.envoy.daemon import Gate
from ostiary.foundation.home import Home
from ostiary.store import directory

AREA: Final = "gate"
SIZE: Final = shop.Size(operations=40)
MOST_MS: Final = 100.0
LIVE: Final = 10_000
LIFE_S: Final = 7_200
BATCH: Final = 1_000  # rows of one statement
GIVE_UP_S: Final = 5.0
MERGED_WITHIN_S: Final = 30.0  # control looks for what other processes recorded every fifteen seconds
COLD: Final = "ecds/revoked-cold.json"
REVOCATIONS: Final = 200
SPREAD_S: Final = 30.0  # over two turns of what control does every fifteen seconds
PAUSE_MOST_S: Final = 0.15
OK: Final = 200
OTHERS: Final = 20  # of each other kind
SCOPE: Final = "openid " + " ".join(f"shop/f0.*:{verb}" for verb in shop.VERBS)
Act = Callable[[Stand, Mapping[str, Any]], Any]


def measure(folder: Path, pace: Pace, say: Say) -> Iterator[Figure]:
    with upstream.answering(folder) as erp:
        for live in (0, LIVE):
            yield from _with_live(folder, erp.url, live, pace, say)


def _with_live(folder: Path, erp: str, live: int, pace: Pace, say: Say) -> Iterator[Figure]:
    spec = folder / "shop.json"
    spec.write_text(shop.document(shop.described(SIZE)), "utf-8")
    with new_home() as home, standing(home, shop.policy(SIZE, erp), spec) as stand:
        if live:
            say(f"{live:,} revocations are recorded, and reach the gate as those of another process do")
            _revoke_many(home, live)
        client = stand.client("c", ["r0"], [f"shop/f0.*:{verb}" for verb in shop.VERBS])
        waits = []
        count = min(pace.samples, REVOCATIONS)
        pause_s = min(SPREAD_S / count, PAUSE_MOST_S)
        for number in range(count):
            time.sleep(pause_s)
            waits.append(_until_refused(stand, client) * 1000)
            if number % 100 == 99:
                say(f"revocation {number + 1} of {count}, {live:,} live: {waits[-1]:.1f} ms")
        others = _others(stand, min(OTHERS, pace.samples // 4), say) if live else {}
    title = f"revocation to refusal, {live:,} live revocations"
    yield plain(AREA, f"{title}, p50", middle(waits), "ms")
    yield at_most(AREA, f"{title}, p99", percentile(waits, 0.99), "ms", MOST_MS)
    yield plain(AREA, f"{title}, slowest of {count}", max(waits), "ms")
    for name, found in others.items():
        yield plain(AREA, f"{title}, by {name}, p50", middle(found), "ms")
        yield at_most(AREA, f"{title}, by {name}, slowest of {len(found)}", max(found), "ms", MOST_MS)


def _others(stand: Stand, count: int, say: Say) -> dict[str, list[float]]:
    """Milliseconds until a person's token is refused, from the moment that an administrator or a client asks for it."""
    stand.ask("client.add", client_id=WEB, redirects=[BACK], auth="none")
    stand.ask("user.add", login="p", password=PASSWORD.reveal(), roles=["r0"])
    found: dict[str, list[float]] = {name: [] for name in KINDS}
    for name, (act, undo) in KINDS.items():
        for _ in range(count):
            found[name].append(_acted(stand, act) * 1000)
            undo(stand)
        say(f"by {name}: {max(found[name]):.0f} ms, the slowest of {count}")
    return found


def _acted(stand: Stand, act: Act) -> float:
    told = sign_in(stand.caller(), WEB, BACK, "p", PASSWORD, SCOPE)
    caller = stand.caller(told["access_token"])
    if (status := _status(caller)) != OK:
        raise NotUp(f"the gate answers {status} to a token that is not revoked")
    with ThreadPoolExecutor(1) as asks:
        began = time.perf_counter()
        done = asks.submit(act, stand, told)
        while _status(caller) == OK:
            if time.perf_counter() - began > GIVE_UP_S:
                raise NotUp("the token is still accepted")
        took = time.perf_counter() - began
        done.result()
    caller.close()
    return took


def _grant(told: Mapping[str, Any]) -> str:
    part = told["access_token"].split(".")[1]
    return str(msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["grant"])


def _nothing(_: Stand) -> None:
    """It can be done again."""


def _asks(operation: str, **told: Any) -> Callable[..., Any]:
    return lambda stand, *_: stand.ask(operation, **told)


# How it is taken back, and what lets it be done again.
KINDS: Final[Mapping[str, tuple[Act, Callable[[Stand], Any]]]] = {
    "grant": (lambda stand, told: stand.ask("token.revoke", grant=_grant(told)), _nothing),
    "session": (lambda stand, told: stand.caller().send("GET", f"/identity/logout?id_token_hint={told['id_token']}"), _nothing),
    "epoch of its user": (_asks("token.revoke", principal="user:p"), _nothing),
    "user disabled": (_asks("principal.disable", principal="user:p"), _asks("principal.enable", principal="user:p")),
    "client disabled": (
        _asks("principal.disable", principal=f"client:{WEB}"), _asks("principal.enable", principal=f"client:{WEB}"),
    ),
    "role change": (_asks("principal.roles", principal="user:p", roles=["r0"]), _nothing),
    "compromised key": (_asks("key.rotate", compromised=True, reason="bench"), _nothing),
}  # fmt: skip


def _revoke_many(home: Home, count: int) -> None:
    """As many tokens revoked and not yet expired as a bad day leaves, in force at the gate when it returns."""
    on = open_installation(home)
    now = int(time.time())
    keys = [f"jti:at-{number:032x}" for number in range(count)]
    with on.store.begin() as connection:
        for at in range(0, count, BATCH):
            some = keys[at : at + BATCH]
            directory.revoke(connection, some, expires_at_s=now + LIFE_S, reason="bench", at_us=now * 1_000_000)
    gate, path = Gate(daemon.find(), edge_of(on)), home.envoy / COLD
    on.store.close()
    deadline = time.monotonic() + MERGED_WITHIN_S
    while (
        keys[-1].partition(":")[2] not in (text := path.read_text("utf-8"))
        or _version(text) != gate.state().versions[COLD]
    ):
        if time.monotonic() > deadline:
            raise NotUp("the gate does not take the revocations that another process recorded")
        time.sleep(0.1)


def _version(file: str) -> str:
    return str(msgspec.json.decode(file)["version_info"])


def _until_refused(stand: Stand, client: Client) -> float:
    """Seconds from sending the revocation (RFC 7009, through the gate) to the first refusal of an open connection."""
    other = stand.caller()
    caller = stand.caller(stand.token(client, other))
    if (status := _status(caller)) != OK:
        raise NotUp(f"the gate answers {status} to a token that is not revoked")
    began = time.perf_counter()
    other.form("/identity/revoke", basic=client.basic, token=caller.token)
    while _status(caller) == OK:
        if time.perf_counter() - began > GIVE_UP_S:
            raise NotUp("the token is still accepted")
    took = time.perf_counter() - began
    caller.close()
    other.close()
    return took


def _status(caller: Caller) -> int:
    return caller.send("GET", "/f0/o0", host=shop.HOST).status
