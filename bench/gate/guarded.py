"""The slow path: a JSON-RPC call to Tryton, which the guard must look into, beside the native path of the same gate."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

import msgspec

from bench import load, shop, upstream
from bench.envoys import Running
from bench.figure import Figure, at_most, middle, plain
from bench.rounds import Pace, Sample, Say, Subject, errors, interleaved, rate, rates_against
from bench.stand import Stand, new_home, standing
from bench.tryton import CATALOGUE
from ostiary.foundation.home import Home

AREA: Final = "gate"
HOST: Final = "erp.test"
SIZE: Final = shop.Size(operations=40)
CALLERS: Final = 16
LINES: Final = 1_000
SHARE: Final = 0.5  # of what the guarded path can bear, for the latency of both
CALL: Final = {
    "id": 1,
    "method": "model.party.party.search_read",
    "params": [[["name", "ilike", "A%"]], 0, 10, None, ["name"], {}],
}


def measure(folder: Path, pace: Pace, say: Say) -> Iterator[Figure]:
    spec = folder / "shop.json"
    spec.write_text(shop.document(shop.described(SIZE)), "utf-8")
    with upstream.tryton_stub(folder) as erp, new_home() as home, standing(home, _policy(erp.url), spec) as stand:
        _learn(home)
        subjects = _subjects(folder, stand)
        full = interleaved(subjects, pace, say)
        guarded, native = full["guarded"], full["native"]
        think_ms = 1000 * load.PACED_CONNECTIONS / (rate(guarded) * SHARE)
        paced = interleaved(subjects, pace, say, think_ms=think_ms)
    yield plain(AREA, "requests, guarded path (JSON-RPC body), TLS", rate(guarded), "1/s")
    yield plain(AREA, "requests, native path, same gate, TLS", rate(native), "1/s")
    yield plain(AREA, "guarded path against native path", rates_against(guarded, native), "")
    pairs = list(zip(paced["guarded"], paced["native"], strict=True))
    yield plain(AREA, "requests for the guarded latency", rate(paced["guarded"]), "1/s")
    for name in ("p50", "p99"):
        yield plain(AREA, f"{name}, native path at that rate", _median(paced["native"], name), "ms")
        added = middle(_ms(ours, name) - _ms(other, name) for ours, other in pairs)
        yield plain(AREA, f"{name} that the guard adds", added, "ms")
    yield at_most(AREA, "errors, guarded and native", errors(full) + errors(paced), "responses", 0)


def _ms(sample: Sample, name: str) -> float:
    return float(getattr(sample.load, f"{name}_us")) / 1000


def _median(samples: list[Sample], name: str) -> float:
    return middle(_ms(sample, name) for sample in samples)


def _policy(erp: str) -> str:
    """The shop's policy with Tryton beside it, and what its role may do there."""
    text = shop.policy(SIZE, erp, extra="erp/party.party: read").replace('"f', '"shop/f')
    system = f'  erp: {{kind: tryton, at: {HOST}, upstream: "{erp}", database: erp, hand-over: session}}\n'
    return text.replace("systems:\n", f"systems:\n{system}", 1)


def _learn(home: Home) -> None:
    """What a small Tryton offers, without asking one."""
    home.catalogue("erp").write_bytes(msgspec.json.encode(CATALOGUE))


def _subjects(folder: Path, stand: Stand) -> list[Subject]:
    scopes = ["erp/party.party:read", *(f"shop/f0.*:{verb}" for verb in shop.VERBS)]
    clients = [stand.client(f"c{number}", ["r0"], scopes) for number in range(CALLERS)]
    for client in clients:
        facts = {"principal": f"client:{client.name}", "system": "erp", "login": client.name, "password": "x" * 12}
        stand.ask("account.set", **facts)
    made: dict[str, list[load.Line]] = {"guarded": [], "native": []}
    asking = stand.caller()
    for number, client in enumerate(clients):
        for at in range(LINES // CALLERS):
            address = f"10.8.{number}.{at}"
            made["guarded"].append(_line(address, method="POST", path="/erp/rpc/", body=json.dumps(CALL)))
            made["native"].append(_line(address, method="GET", path=f"/f0/o0/{at + 1}"))
        for name, host in (("guarded", HOST), ("native", shop.HOST)):
            token = stand.token(client, asking, f"https://{host}")
            made[name] = [_with(line, token) for line in made[name]]
    return [
        Subject(name=name, start=_started(stand), host=host, requests=load.write(made[name], folder / name))
        for name, host in (("guarded", HOST), ("native", shop.HOST))
    ]


def _line(address: str, **fields: Any) -> load.Line:
    return load.Line(address=address, **fields)


def _with(line: load.Line, token: str) -> load.Line:
    return line if line.token else msgspec.structs.replace(line, token=token)


def _started(stand: Stand) -> Any:
    running = Running(url=stand.origin.replace("localhost", "127.0.0.1"), pid=stand.pid("envoy"))

    def start() -> AbstractContextManager[Running]:
        return nullcontext(running)

    return start
