"""The authorization server of a running installation, asked over its own socket, without the gate in front."""

import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from bench import shop
from bench.figure import Figure, at_most, middle, percentile, plain
from bench.rounds import Pace, Say
from bench.stand import Client, Stand, new_home, standing

AREA: Final = "identity"
SIZE: Final = shop.Size(operations=10)
UPSTREAM: Final = "http://127.0.0.1:9"  # nobody asks it
CALLERS: Final = 8
EACH: Final = 50
OK: Final = 200
FORM: Final = "application/x-www-form-urlencoded"


class Answer(msgspec.Struct, frozen=True):
    status: int
    seconds: float
    body: bytes


def measure(folder: Path, pace: Pace, say: Say) -> Iterator[Figure]:
    spec = folder / "shop.json"
    spec.write_text(shop.document(shop.described(SIZE)), "utf-8")
    each = EACH if pace.samples >= EACH * CALLERS else EACH // 10
    with new_home() as home, standing(home, shop.policy(SIZE, UPSTREAM, spec=str(spec))) as stand:
        clients = [stand.client(f"c{number}", ["r0"], ["shop/f0.*:read"]) for number in range(CALLERS)]
        grants: list[tuple[float, list[Answer]]] = []
        revocations: list[tuple[float, list[Answer]]] = []
        for number in range(pace.rounds):
            fields = [[{"grant_type": "client_credentials"}] * each for _ in clients]
            grants.append(_together(stand, clients, "/identity/token", fields))
            tokens = [msgspec.json.decode(answer.body)["access_token"] for answer in grants[-1][1]]
            shares = [[{"token": one} for one in tokens[at * each : (at + 1) * each]] for at in range(CALLERS)]
            revocations.append(_together(stand, clients, "/identity/revoke", shares))
            say(
                f"round {number + 1} of {pace.rounds}: {grants[-1][0]:.0f} grants/s, {revocations[-1][0]:.0f} revocations/s"
            )
    yield from _told("client-credentials grants", grants)
    yield from _told("revocations, each pushed to the gate", revocations)


def _told(name: str, rounds: Sequence[tuple[float, list[Answer]]]) -> Iterator[Figure]:
    answers = [answer for _, some in rounds for answer in some]
    times = [answer.seconds * 1000 for answer in answers]
    yield plain(AREA, f"{name}, {CALLERS} at a time", middle(rate for rate, _ in rounds), "1/s")
    yield plain(AREA, f"{name}, p50", middle(times), "ms")
    yield plain(AREA, f"{name}, p99", percentile(times, 0.99), "ms")
    yield at_most(AREA, f"{name}, errors", sum(answer.status != OK for answer in answers), "responses", 0)


def _together(
    stand: Stand, clients: Sequence[Client], path: str, fields: Sequence[Sequence[dict[str, str]]]
) -> tuple[float, list[Answer]]:
    """Each client sends its own forms over one connection, all clients at once: the rate, and every answer in order."""
    began = time.perf_counter()
    with ThreadPoolExecutor(len(clients)) as pool:
        found = list(
            pool.map(lambda pair: list(_send(stand, pair[0], path, pair[1])), zip(clients, fields, strict=True))
        )
    answers = [answer for some in found for answer in some]
    return len(answers) / (time.perf_counter() - began), answers


def _send(stand: Stand, client: Client, path: str, forms: Sequence[dict[str, str]]) -> Iterator[Answer]:
    connection = _Socket(stand.home.socket("identity"))
    headers = {"authorization": f"Basic {client.basic}", "content-type": FORM}
    for form in forms:
        began = time.perf_counter()
        connection.request("POST", path, urlencode(form), headers)
        answer = connection.getresponse()
        body = answer.read()
        yield Answer(answer.status, time.perf_counter() - began, body)
    connection.close()


class _Socket(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("identity", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock: Any = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30)
        self.sock.connect(str(self._path))
