"""From the revocation of a token, by whatever it can be taken back, to the first refusal on a connection that was open."""

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from tools.caller import Caller, sign_in

from bench import shop, upstream
from bench.database import postgresql
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
MERGED_WITHIN_S: Final = 30.0  # so many in one go: control looks for what other processes recorded twice a second
COLD: Final = "ecds/revoked-cold.json"
REVOCATIONS: Final = 200
SPREAD_S: Final = 30.0  # over two turns of what control does every fifteen seconds
PAUSE_MOST_S: Final = 0.15
OK: Final = 200
OTHERS: Final = 20  # of each other kind
SCOPE: Final = "openid " + " ".join(f"shop/f0.*:{verb}" for verb in shop.VERBS)
SCIM: Final = "/identity/scim/v2"
DIRECTORY: Final = "directory"  # the client that provisions users
ACTIVE: Final = {"op": "Replace", "path": "active"}
Told = Mapping[str, Any]
Act = Callable[[Stand, Told], Any]


class Kind(NamedTuple):
    """A way in which what somebody shows is taken back; afterwards he is as he was before."""

    act: Act
    undo: Act = lambda *_: None
    shown: Callable[[Stand], Told] = lambda stand: _signed_in(stand)  # noqa: PLW0108  it stands below


def measure(folder: Path, pace: Pace, say: Say) -> Iterator[Figure]:
    with upstream.answering(folder) as erp:
        yield from _with_live(folder, erp.url, 0, pace, say)
        yield from _with_live(folder, erp.url, LIVE, pace, say)
        with postgresql() as url:
            yield from _with_live(folder, erp.url, LIVE, pace, say, store=url)


def _with_live(folder: Path, erp: str, live: int, pace: Pace, say: Say, *, store: str = "") -> Iterator[Figure]:
    spec, kept = folder / "shop.json", "PostgreSQL" if store else "SQLite"
    spec.write_text(shop.document(shop.described(SIZE)), "utf-8")
    with new_home() as home, standing(home, shop.policy(SIZE, erp), spec, store=store) as stand:
        if live:
            say(f"{kept}: {live:,} revocations are recorded, and reach the gate as those of another process do")
            _revoke_many(home, live)
        client = stand.client("c", ["r0"], [f"shop/f0.*:{verb}" for verb in shop.VERBS])
        waits = []
        count = min(pace.samples, REVOCATIONS)
        pause_s = min(SPREAD_S / count, PAUSE_MOST_S)
        for number in range(count):
            time.sleep(pause_s)
            waits.append(_until_refused(stand, client) * 1000)
            if number % 100 == 99:
                say(f"{kept}: revocation {number + 1} of {count}, {live:,} live: {waits[-1]:.1f} ms")
        others = _others(stand, min(OTHERS, pace.samples // 4), say) if live else {}
    title = f"{kept}: revocation to refusal, {live:,} live revocations"
    yield plain(AREA, f"{title}, p50", middle(waits), "ms")
    yield at_most(AREA, f"{title}, p99", percentile(waits, 0.99), "ms", MOST_MS)
    yield plain(AREA, f"{title}, slowest of {count}", max(waits), "ms")
    for name, found in others.items():
        yield plain(AREA, f"{title}, by {name}, p50", middle(found), "ms")
        yield at_most(AREA, f"{title}, by {name}, slowest of {len(found)}", max(found), "ms", MOST_MS)


def _others(stand: Stand, count: int, say: Say) -> dict[str, list[float]]:
    """Milliseconds until what was good is refused, from the moment that somebody asks to take it back."""
    stand.ask("client.add", client_id=WEB, redirects=[BACK], auth="none")
    stand.ask("user.add", login="p", password=PASSWORD.reveal(), roles=["r0"])
    found: dict[str, list[float]] = {name: [] for name in KINDS}
    for name, kind in KINDS.items():
        for _ in range(count):
            told = kind.shown(stand)
            found[name].append(_acted(stand, kind.act, told) * 1000)
            kind.undo(stand, told)
        say(f"by {name}: {max(found[name]):.0f} ms, the slowest of {count}")
    return found


def _acted(stand: Stand, act: Act, told: Told) -> float:
    caller = stand.caller(told["access_token"])
    if (status := _status(caller)) != OK:
        raise NotUp(f"the gate answers {status} to what is not revoked")
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


def _signed_in(stand: Stand, login: str = "p") -> dict[str, Any]:
    return sign_in(stand.caller(), WEB, BACK, login, PASSWORD, SCOPE)


def _renewed_twice(stand: Stand) -> dict[str, Any]:
    """The refresh token has been followed by two others: whoever comes with it now has stolen it."""
    told = _signed_in(stand)
    _renewed(stand, _renewed(stand, told))
    return told


def _renewed(stand: Stand, told: Told) -> dict[str, Any]:
    fields = {"grant_type": "refresh_token", "client_id": WEB, "refresh_token": told["refresh_token"]}
    return dict(stand.caller().form("/identity/token", **fields).json())


def _provisioned(stand: Stand) -> dict[str, Any]:
    """Somebody whom a directory keeps here has signed in."""
    client = stand.client(DIRECTORY, ["r0"], [])
    stand.ask("provisioning.allow", client_id=DIRECTORY, roles=["r0"], takes_over=[])
    own = stand.caller(stand.token(client, stand.caller()))
    made = own.send("POST", f"{SCIM}/Users", b'{"userName": "d"}').json()["id"]
    stand.ask("user.password", login="d", password=PASSWORD.reveal())
    _patched(own, "Groups/r0", {"op": "add", "path": "members", "value": [{"value": made}]})
    return {**_signed_in(stand, "d"), "own": own, "id": made}


def _patched(own: Caller, what: str, operation: Mapping[str, Any]) -> None:
    answer = own.send("PATCH", f"{SCIM}/{what}", msgspec.json.encode({"Operations": [operation]}))
    if answer.status != OK:
        raise NotUp(f"the gate answers {answer.status} to a directory")


def _keyed(stand: Stand) -> dict[str, Any]:
    made = stand.ask("client.add", client_id="key", auth="api_key", roles=["r0"])
    return {"access_token": made["client_secret"]}


def _forget_provisioned(stand: Stand, told: Told) -> None:
    told["own"].close()
    stand.ask("principal.remove", principal="user:d")
    stand.ask("principal.remove", principal=f"client:{DIRECTORY}")


def _grant(told: Mapping[str, Any]) -> str:
    part = told["access_token"].split(".")[1]
    return str(msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["grant"])


def _asks(operation: str, **told: Any) -> Act:
    return lambda stand, _: stand.ask(operation, **told)


def _end_emergency(stand: Stand, _: Told) -> None:
    (begun,) = (one for one in stand.ask("break-glass.list") if one["state"] == "begun")
    stand.ask("break-glass.end", proposal=begun["id"])


P: Final = {"principal": "user:p"}
APP: Final = {"principal": f"client:{WEB}"}
KEY: Final = {"principal": "client:key"}
AGAIN: Final = {"login": "p", "password": PASSWORD.reveal()}
FLOOD: Final = {"role": "r1", "minutes": 5, "reason": "bench"}
KINDS: Final[Mapping[str, Kind]] = {
    "grant": Kind(lambda stand, told: stand.ask("token.revoke", grant=_grant(told))),
    "replayed refresh token": Kind(_renewed, shown=_renewed_twice),
    "session": Kind(lambda stand, told: stand.caller().send("GET", f"/identity/logout?id_token_hint={told['id_token']}")),
    "epoch of its user": Kind(_asks("token.revoke", **P)),
    "user disabled": Kind(_asks("principal.disable", **P), _asks("principal.enable", **P)),
    "user disabled by SCIM": Kind(
        lambda _, told: _patched(told["own"], f"Users/{told['id']}", {**ACTIVE, "value": False}),
        _forget_provisioned, _provisioned,
    ),
    "user removed": Kind(_asks("principal.remove", **P), _asks("user.add", **AGAIN, roles=["r0"])),
    "client disabled": Kind(_asks("principal.disable", **APP), _asks("principal.enable", **APP)),
    "API key": Kind(_asks("principal.disable", **KEY), _asks("principal.remove", **KEY), _keyed),
    "role change": Kind(_asks("principal.roles", **P, roles=["r0"])),
    "password change": Kind(_asks("user.password", **AGAIN)),
    "emergency": Kind(_asks("break-glass.start", **P, **FLOOD), _end_emergency),
    "compromised key": Kind(_asks("key.rotate", compromised=True, reason="bench")),
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
