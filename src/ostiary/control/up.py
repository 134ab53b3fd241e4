"""`ostiary up`: the processes of one installation, started together, looked after, and ended together."""

import itertools
import json
import logging
import resource
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from ostiary.control import health, prepare, process
from ostiary.control.documents import observed
from ostiary.control.installation import administrators, alone, opened
from ostiary.control.revisions import recovered
from ostiary.envoy import daemon as envoy
from ostiary.foundation import unix
from ostiary.foundation.errors import OperatorFault, OstiaryError, SystemFault
from ostiary.foundation.home import SILENT_S, Home, load_settings
from ostiary.foundation.secret import log_to_stderr
from ostiary.monitor.alerts import unkept
from ostiary.monitor.rules import Finding
from ostiary.store.plans import plan_in_force

MEMBERS: Final = ("control", "identity", "guard")
GATE: Final = "envoy"
RESTARTS_MAX: Final = 5  # of all children together ...
RESTARTS_WITHIN_S: Final = 60.0  # ... in so long: more is no accident
PAUSE_S: Final = 0.2  # before a child is started again
STOP_TIMEOUT_S: Final = 8.0
LOOK_EVERY_S: Final = 1.0
# Child -> socket, method and question: each is asked in turn, one a look.
QUESTIONS: Final = {
    "control": ("control", "POST", "/internal/alive"),
    "identity": ("identity", "GET", "/identity/jwks"),
    "guard": ("guard-control", "POST", "/internal/state"),
    GATE: (GATE, "GET", "/server_info"),
}
ANSWER_WITHIN_S: Final = 5.0
MISSED_MAX: Final = 3
_STOP: Final = frozenset({signal.SIGINT, signal.SIGTERM})
_WATCHED: Final = _STOP | {signal.SIGCHLD}

Start = Callable[[], process.Child]

log = logging.getLogger(__name__)


def run(home: Home) -> None:
    """Runs until SIGINT or SIGTERM; raises when a child can't be kept alive. No child outlives this process."""
    with alone(home), process.signals_wait(_WATCHED):
        log.info("starting")
        starts, call = _prepared(home)
        children: dict[str, process.Child] = {}
        try:
            for name, start in starts.items():
                children[name] = start()
            _look_after(starts, children, _Pulse(home, call))
        finally:
            log.info("stopping")
            # The gate first: nobody is let in while the rest goes.
            process.stop([children[name] for name in sorted(children, key=lambda name: name != GATE)], STOP_TIMEOUT_S)
    log.info("stopped; nothing passes until it is started again")


def _prepared(home: Home) -> tuple[Mapping[str, Start], Callable[[str], Any]]:
    """Everything that can be wrong before a start is found here; then how each child is started, and by what is told
    outside what control can't tell. The latter needs no store.
    """
    with opened(home) as installation:
        settings = installation.settings
        _port_is_free(settings.listen, settings.port)
        administrators(home, settings)
        if settings.metrics_port:
            _port_is_free("127.0.0.1", settings.metrics_port)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        envoy.check_watches()
        plan = recovered(installation.store, home)
        if differs := health.looked("policy file", partial(health.drift, installation, plan))["text"]:
            log.warning("revision %s of the policy is in force; %s", plan.revision, differs)
        for told in observed(plan.systems, installation.clock.now()):
            log.warning("%s", told)
        binary = prepare.ready(installation)
        gate = envoy.command(binary, home, settings.envoy_workers)
        zone = prepare.edge_of(installation).zone
        # Once, for all copies; a start that was refused did not wait for it.
        call = import_module("ostiary.control.members").Outbox(installation).call
    ours = {name: partial(process.Copy, name, partial(process.run, name, home)) for name in MEMBERS}
    return {**ours, GATE: partial(process.program, gate, envoy.environment(zone))}, call


def _ready(home: Home) -> bool:
    """Whether every part answers; then says so, and where."""
    if not all(health.is_up(home, name) for name in (*MEMBERS, GATE)):
        return False
    plan, settings = plan_in_force(home), load_settings(home.settings)
    log.info("the gate is up at %s, revision %s of policy %s", settings.origin, plan.revision, plan.policy)
    log.info("`ostiary status --home %s` shows how it is; Ctrl-C stops it", home.root)
    return True


class _Pulse:
    """Asks one child after the other whether it answers; one that keeps silent is killed, which is how it is cured."""

    def __init__(self, home: Home, call: Callable[[str], Any]) -> None:
        self.home, self._call = home, call
        self._renewed_s, self._told = time.monotonic(), False
        self._missed = dict.fromkeys(QUESTIONS, 0)
        self._names = itertools.cycle(QUESTIONS)

    def feel(self, children: Mapping[str, process.Child]) -> None:
        name = next(self._names)
        place, method, question = QUESTIONS[name]
        try:
            answer = unix.ask(self.home.socket(place), method, question, timeout_s=ANSWER_WITHIN_S)
            self._missed[name] = 0
            if name == "control" and answer.status == HTTPStatus.OK:
                self._renewed_s = time.monotonic() - json.loads(answer.body)["result"]
        except TimeoutError:
            self._missed[name] += 1
        except OSError:  # it starts, or it has just ended, which is seen elsewhere
            pass
        if self._missed[name] >= MISSED_MAX:
            log.error("%s is there but does not answer; it is killed, and started again", name)
            children[name].kill()
            self._missed[name] = 0
        if name == "control":
            self._tell(time.monotonic() - self._renewed_s)

    def _tell(self, away_s: float) -> None:
        """Outside, once, by a process of its own: who alone sends what is wrong can't send that he is silent."""
        silent = away_s > SILENT_S
        if silent and not self._told:
            log.error("control has not renewed the gate's lease for %d s", away_s)
            told = Finding(rule="control-silent", key="control", at=datetime.now(UTC), evidence={"away_s": int(away_s)})
            process.Copy("alarm", partial(self._call, unkept(told)))
        self._told = silent


def _look_after(starts: Mapping[str, Start], children: dict[str, process.Child], pulse: _Pulse) -> None:
    """Starts again what ends by itself: meanwhile the gate refuses what needed it."""
    ready = False
    ended: deque[float] = deque(maxlen=RESTARTS_MAX + 1)
    while not _told_to_stop():
        ready = ready or _ready(pulse.home)
        pulse.feel(children)
        for name, one in list(children.items()):
            if (code := one.poll()) is None:
                continue
            if name != GATE and code == OperatorFault.exit_code:  # it would end so again and again
                hint = "its last lines above say what is wrong, and what to do"
                raise OperatorFault("child-refused", f"{name} can't work as things are", hint=hint)
            ended.append(time.monotonic())
            if len(ended) > RESTARTS_MAX and ended[-1] - ended[0] < RESTARTS_WITHIN_S:
                told = f"{name} ended {RESTARTS_MAX + 1} times within a minute, the last time with {_how(code)}"
                hint = "its last lines above say why; `ostiary doctor` looks further"
                raise SystemFault("child-died", told, hint=hint)
            log.error("%s ended with %s; it is started again", name, _how(code))
            time.sleep(PAUSE_S)
            children[name] = starts[name]()


def _told_to_stop() -> bool:
    """Waits for a signal, for a second at most.

    Python tells a signal that there was none (number 0, seen in 3.11) when the whole process was stopped for longer.
    """
    told = signal.sigtimedwait(_WATCHED, LOOK_EVERY_S)
    return told is not None and told.si_signo in _STOP


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _port_is_free(address: str, port: int) -> None:
    """Envoy shares its port with another Envoy (SO_REUSEPORT): then some calls would pass by another policy."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as taken:
            told = f"nothing can listen on {address}:{port}: {taken.strerror}"
            hint = "end what listens there (`ss -ltnp`), or choose another port in settings.toml"
            raise SystemFault("port-taken", told, hint=hint) from taken


def main(arguments: Sequence[str]) -> int:
    """`python -m ostiary.control.up FOLDER [--with-parent PID]`: for the demo, which it must not outlive."""
    folder, *more = arguments
    if more:
        process.end_with_parent(int(more[1]))
    log_to_stderr()
    try:
        run(Home(root=Path(folder)))
    except OstiaryError as problem:
        sys.stderr.write(f"error: {problem}\n")
        return problem.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
