"""Interleaved rounds: every subject in every round, so that a busy minute weighs on all of them alike."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from bench.envoys import Start
from bench.figure import middle
from bench.load import Load, send
from bench.process import cpu_s

Say = Callable[[str], None]
WARM_UP_S: Final = 1


class Pace(Struct, frozen=True, kw_only=True):
    """How long one round is, how many there are, and how often a single act is timed."""

    rounds: int
    seconds: int
    samples: int


FULL: Final = Pace(rounds=5, seconds=3, samples=400)
QUICK: Final = Pace(rounds=2, seconds=1, samples=40)


class Subject(Struct, frozen=True, kw_only=True):
    """What is measured: how it is started, and the requests sent to it."""

    name: str
    start: Start
    host: str
    requests: Path


class Sample(Struct, frozen=True, kw_only=True):
    load: Load
    cpu_us: float  # CPU time of the process for each request

    @property
    def rate(self) -> float:
        return self.load.rate


Samples = dict[str, list[Sample]]


def interleaved(
    subjects: Sequence[Subject], pace: Pace, say: Say, *, think_ms: float = 0.0, connections: int = 0
) -> Samples:
    """`pace.rounds` samples of each subject; each round begins with another one."""
    found: Samples = {subject.name: [] for subject in subjects}
    for number in range(pace.rounds):
        turn = number * len(subjects) // pace.rounds
        for subject in (*subjects[turn:], *subjects[:turn]):
            found[subject.name].append(_one(subject, pace.seconds, think_ms, connections))
        say(f"round {number + 1} of {pace.rounds}: " + ", ".join(_told(one, found) for one in subjects[:4]))
    return found


def _one(subject: Subject, seconds: int, think_ms: float, connections: int) -> Sample:
    """Of a proxy that has served every request before: first tokens, patterns and connections cost more once."""
    with subject.start() as one:
        send(one.url, subject.host, subject.requests, seconds=WARM_UP_S)
        before = cpu_s(one.pid)
        load = send(
            one.url, subject.host, subject.requests, seconds=seconds, think_ms=think_ms, connections=connections
        )
        return Sample(load=load, cpu_us=(cpu_s(one.pid) - before) / max(1, load.requests) * 1e6)


def _told(subject: Subject, found: Samples) -> str:
    return f"{subject.name} {found[subject.name][-1].rate:,.0f}/s"


def rate(samples: Iterable[Sample]) -> float:
    return middle(one.rate for one in samples)


def cpu(samples: Iterable[Sample]) -> float:
    return middle(one.cpu_us for one in samples)


def rates_against(ours: Sequence[Sample], theirs: Sequence[Sample]) -> float:
    """The median over rounds of our rate in theirs."""
    return middle(one.rate / other.rate for one, other in zip(ours, theirs, strict=True))


def costs_against(ours: Sequence[Sample], theirs: Sequence[Sample]) -> float:
    """The median over rounds of our CPU time for one request in theirs."""
    return middle(one.cpu_us / other.cpu_us for one, other in zip(ours, theirs, strict=True))


def errors(found: Samples) -> int:
    return sum(sample.load.errors for samples in found.values() for sample in samples)
