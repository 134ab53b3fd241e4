"""The authorization server of a running installation, on one core, asked over its own socket: no gate in front.

npm `oidc-provider` answers on the same core, a round of it after a round of ours.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from joserfc import jwt
from joserfc.jwk import ECKey

from bench import provider, shop
from bench.database import postgresql
from bench.figure import Figure, at_least, at_most, middle, percentile, plain
from bench.members import PASSWORD, Inside, Member, Round, enrolled, together
from bench.process import CORES, pin
from bench.rounds import Pace, Say
from bench.stand import Stand, new_home, standing
from ostiary.foundation.proof import hashed, verify_proof
from ostiary.identity.passwords import hash_password, password_matches

AREA: Final = "identity"
SIZE: Final = shop.Size(operations=10)
PLACE: Final = "https://gate.test/orders"
PROOFS: Final = 500
PROOF_ROUNDS: Final = 5
HASHES: Final = 20
PROOF_MOST_US: Final = 250.0
UPSTREAM: Final = "http://127.0.0.1:9"  # nobody asks it
CALLERS: Final = 8
QUICK_SHARE: Final = 5
# In this order: a token is there before it is revoked, a sign-in before it is renewed. The last is the goal, per second.
KINDS: Final[Mapping[str, tuple[str, int, float]]] = {
    "client-credentials grants": ("grant", 50, 300),
    "revocations, each pushed to the gate": ("revoke", 50, 0),
    "password sign-ins, of three requests": ("sign_in", 10, 35),
    "refreshes": ("refresh", 50, 300),
}
GRANTS: Final = next(iter(KINDS))
PROVIDER: Final = f"npm oidc-provider, in memory: {GRANTS}"


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


def hashing() -> Figure:
    """What the password alone costs of a sign-in, in CPU time of this process; the median of several rounds."""
    hashed_once, rounds = hash_password(PASSWORD, login="-"), []
    for _ in range(PROOF_ROUNDS):
        began = time.process_time()
        for _ in range(HASHES):
            assert password_matches(hashed_once, PASSWORD)
        rounds.append((time.process_time() - began) / HASHES * 1e6)
    return plain(AREA, "cpu of one argon2id, the part of a sign-in that is meant to cost", middle(rounds), "µs")


def measure(folder: Path, pace: Pace, say: Say) -> Iterator[Figure]:
    yield proofs()
    yield hashing()
    spec = folder / "shop.json"
    spec.write_text(shop.document(shop.described(SIZE)), "utf-8")
    # The pages' own caller asks for scopes of a system called erp.
    text = shop.policy(SIZE, UPSTREAM).replace("  shop: {", "  erp: {")
    stores: dict[str, AbstractContextManager[str]] = {"SQLite": nullcontext(""), "PostgreSQL": postgresql()}
    for name, store in stores.items():
        with store as url, new_home() as home, standing(home, text, spec, store=url) as stand:
            pin(stand.pid("identity"), CORES.tested)
            say(f"{name}: {CALLERS} machines and people")
            with provider.provider(folder) as other:
                yield from _told(name, _rounds(stand, other, enrolled(stand, CALLERS), pace, say))


def _rounds(
    stand: Stand, other: provider.Other, members: Sequence[Member], pace: Pace, say: Say
) -> dict[str, list[Round]]:
    found: dict[str, list[Round]] = {name: [] for name in (*KINDS, PROVIDER)}
    path, pid = stand.home.socket("identity"), stand.pid("identity")
    for number in range(pace.rounds):
        for name, (act, times, _) in KINDS.items():
            often = times if pace.samples >= times * CALLERS else times // QUICK_SHARE
            acts = [getattr(member, act) for member in members]
            found[name].append(together(lambda: Inside(path), acts, often, pid))
            if name == GRANTS:
                found[PROVIDER].append(together(other.caller, [provider.grant] * CALLERS, often, other.pid))
        told = ", ".join(f"{rounds[-1].rate:.0f} {name.partition(',')[0]}/s" for name, rounds in found.items())
        say(f"round {number + 1} of {pace.rounds}: {told}")
    return found


def _told(store: str, found: Mapping[str, Sequence[Round]]) -> Iterator[Figure]:
    for name, rounds in found.items():
        times = [act.seconds * 1000 for one in rounds for act in one.acts]
        goal, rate = KINDS[name][2] if name in KINDS else 0, middle(one.rate for one in rounds)
        title = f"{store}: {name}, {CALLERS} at a time"
        yield at_least(AREA, title, rate, "1/s", goal) if goal else plain(AREA, title, rate, "1/s")
        yield plain(AREA, f"{store}: {name}, CPU time of one", middle(one.cpu_us for one in rounds), "µs")
        yield plain(AREA, f"{store}: {name}, p50", middle(times), "ms")
        yield plain(AREA, f"{store}: {name}, p99", percentile(times, 0.99), "ms")
    ours, theirs = found[GRANTS], found[PROVIDER]
    cost = middle(one.cpu_us / other.cpu_us for one, other in zip(ours, theirs, strict=True))
    yield plain(AREA, f"{store}: CPU time of a {GRANTS[:-1]} in that of npm oidc-provider", cost, "times")
    failed = sum(not act.ok for rounds in found.values() for one in rounds for act in one.acts)
    yield at_most(AREA, f"{store}: errors", failed, "answers", 0)
