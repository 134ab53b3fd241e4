"""The authorization server of a running installation, on one core, asked over its own socket: no gate in front."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from joserfc import jwt
from joserfc.jwk import ECKey

from bench import shop
from bench.database import postgresql
from bench.figure import Figure, at_most, middle, percentile, plain
from bench.members import Member, Round, enrolled, together
from bench.process import CORES, pin
from bench.rounds import Pace, Say
from bench.stand import Stand, new_home, standing
from ostiary.foundation.proof import hashed, verify_proof

AREA: Final = "identity"
SIZE: Final = shop.Size(operations=10)
PLACE: Final = "https://gate.test/orders"
PROOFS: Final = 500
PROOF_ROUNDS: Final = 5
PROOF_MOST_US: Final = 250.0
UPSTREAM: Final = "http://127.0.0.1:9"  # nobody asks it
CALLERS: Final = 8
QUICK_SHARE: Final = 5
# In this order: a token is there before it is revoked, a sign-in before it is renewed.
KINDS: Final[Mapping[str, tuple[str, int]]] = {
    "client-credentials grants": ("grant", 50),
    "revocations, each pushed to the gate": ("revoke", 50),
    "password sign-ins, of three requests": ("sign_in", 10),
    "refreshes": ("refresh", 50),
}


def proofs() -> Figure:
    """What a DPoP proof costs to look at, in CPU time of this process; the median of several rounds."""
    key, held = ECKey.generate_key("P-256"), "x" * 900
    header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": key.as_dict(private=False)}
    told = {"htm": "GET", "htu": PLACE, "iat": int(time.time()), "ath": hashed(held)}
    shown = [jwt.encode(header, {**told, "jti": str(number)}, key) for number in range(PROOFS)]
    rounds = []
    for _ in range(PROOF_ROUNDS):
        began = time.process_time()
        for text in shown:
            verify_proof(text, method="GET", urls=[PLACE], now=datetime.now(UTC), token=held)
        rounds.append((time.process_time() - began) / PROOFS * 1e6)
    return at_most(AREA, "cpu of one DPoP proof", middle(rounds), "µs", PROOF_MOST_US)


def measure(folder: Path, pace: Pace, say: Say) -> Iterator[Figure]:
    yield proofs()
    spec = folder / "shop.json"
    spec.write_text(shop.document(shop.described(SIZE)), "utf-8")
    # The pages' own caller asks for scopes of a system called erp.
    text = shop.policy(SIZE, UPSTREAM).replace("  shop: {", "  erp: {")
    stores: dict[str, AbstractContextManager[str]] = {"SQLite": nullcontext(""), "PostgreSQL": postgresql()}
    for name, store in stores.items():
        with store as url, new_home() as home, standing(home, text, spec, store=url) as stand:
            pin(stand.pid("identity"), CORES.tested)
            say(f"{name}: {CALLERS} machines and people")
            yield from _told(name, _rounds(stand, enrolled(stand, CALLERS), pace, say))


def _rounds(stand: Stand, members: Sequence[Member], pace: Pace, say: Say) -> dict[str, list[Round]]:
    found: dict[str, list[Round]] = {name: [] for name in KINDS}
    for number in range(pace.rounds):
        for name, (act, times) in KINDS.items():
            often = times if pace.samples >= times * CALLERS else times // QUICK_SHARE
            found[name].append(together(stand, [getattr(member, act) for member in members], often))
        told = ", ".join(f"{rounds[-1].rate:.0f} {name.partition(',')[0]}/s" for name, rounds in found.items())
        say(f"round {number + 1} of {pace.rounds}: {told}")
    return found


def _told(store: str, found: Mapping[str, Sequence[Round]]) -> Iterator[Figure]:
    for name, rounds in found.items():
        times = [act.seconds * 1000 for one in rounds for act in one.acts]
        yield plain(AREA, f"{store}: {name}, {CALLERS} at a time", middle(one.rate for one in rounds), "1/s")
        yield plain(AREA, f"{store}: {name}, p50", middle(times), "ms")
        yield plain(AREA, f"{store}: {name}, p99", percentile(times, 0.99), "ms")
    failed = sum(not act.ok for rounds in found.values() for one in rounds for act in one.acts)
    yield at_most(AREA, f"{store}: errors", failed, "answers", 0)
