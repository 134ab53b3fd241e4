"""Who fails to show who he is: a count of the last minute for each address and each client.

Only what was tried counts towards a block: a caller who shows nothing guesses nothing, and any web page can make its
visitors' browsers send requests without a token. What the gate refused because of a measure or a limit of ours counts
nowhere: a block must not feed itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from ostiary.event.record import NONE, Event
from ostiary.foundation.origin import named
from ostiary.monitor.catalogue import FAILURES, TOKENLESS, Rule
from ostiary.monitor.finding import GRACE, MINUTE_S, SAMPLES_MAX, Finding, Thresholds, ended
from ostiary.plan.reason import Reason

KEYS_MAX: Final = 10_000  # remembered from one batch to the next; who failed longest ago goes first


class Tries(Struct, frozen=True, kw_only=True):
    """The latest ones, as many as it takes to fire, and the minute in which it fired last."""

    latest: tuple[tuple[float, str], ...] = ()  # (epoch seconds, decision)
    told: int = 0


Known = dict[str, Tries]  # "rule key" -> tries


def noted(
    before: Mapping[str, Tries], events: Sequence[Event], until: datetime, limits: Thresholds, old_tokens_s: float = 0.0
) -> tuple[Known, list[Finding]]:
    """Fires at once, and at most once in a minute for each rule and key.

    Up to `old_tokens_s` honest callers still try tokens of a key that was taken back: told, and no address is blocked.
    """
    known, found = dict(before), list[Finding]()
    for event in events:
        at = ended(event, until)
        for rule, key in _counts(event, old_tokens=at <= old_tokens_s):
            name = f"{rule.id} {key}"
            tries = _with(known.pop(name, Tries()), at, event.decision, limits)
            minute = int(at) // MINUTE_S
            if len(tries.latest) > limits.failures and tries.told != minute:
                tries = Tries(latest=tries.latest, told=minute)
                found.append(_finding(rule, key, tries))
            known[name] = tries  # at the end: the order of the dictionary is the order of the latest tries
    oldest = (until - GRACE).timestamp() - MINUTE_S
    living = [(name, tries) for name, tries in known.items() if tries.latest[-1][0] > oldest]
    return dict(living[-KEYS_MAX:]), found


def _counts(event: Event, *, old_tokens: bool) -> Iterator[tuple[Rule, str]]:
    """What a failure counts towards (standard F3)."""
    if event.reason in {Reason.TOKEN_INVALID, Reason.CREDENTIAL_INVALID}:  # what was tried is wrong
        old = old_tokens and event.reason == Reason.TOKEN_INVALID
        yield FAILURES, f"{'old-token' if old else 'address'}:{named(event.source)}"
    elif event.reason == Reason.TOKEN_MISSING:
        yield TOKENLESS, f"address:{named(event.source)}"
    elif event.reason == Reason.TOKEN_REVOKED and event.client != NONE:  # the gate refuses it; its owner is to know
        yield FAILURES, f"client:{event.client.removeprefix('client:')}"


def _with(before: Tries, at: float, decision: str, limits: Thresholds) -> Tries:
    recent = [one for one in before.latest if one[0] > at - MINUTE_S]
    return Tries(latest=(*recent, (at, decision))[-limits.failures - 1 :], told=before.told)


def _finding(rule: Rule, key: str, tries: Tries) -> Finding:
    samples = [decision for _, decision in tries.latest[-SAMPLES_MAX:]]
    evidence = {"failures": len(tries.latest), "within_s": MINUTE_S, "decisions": samples}
    return Finding(rule=rule.id, key=key, at=datetime.fromtimestamp(tries.latest[-1][0], UTC), evidence=evidence)
