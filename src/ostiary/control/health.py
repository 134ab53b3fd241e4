"""What is well and what is not, as `doctor` sees it from outside and `status` from inside."""

import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from ostiary.audit.log import check, entries, verify
from ostiary.control import giving, revisions
from ostiary.control.board import Board
from ostiary.control.documents import observed, read_document, read_policy
from ostiary.control.installation import Installation, opened, unrecorded
from ostiary.control.questions import giving_account, without_account
from ostiary.envoy import daemon
from ostiary.envoy.caller import is_database
from ostiary.envoy.upstream import cluster_name, host_and_port
from ostiary.erp.catalogue import learned
from ostiary.foundation import unix
from ostiary.foundation.clock import stamp
from ostiary.foundation.errors import OperatorFault, OstiaryError, SystemFault, counted, plainly
from ostiary.foundation.home import OTHERS, Home, load_settings
from ostiary.identity import keys, passwords
from ostiary.monitor.alerts import open_alerts
from ostiary.plan.model import Kind, Plan, System
from ostiary.prove.rules import ended, few
from ostiary.store.database import Sealer, Store
from ostiary.store.directory import clients_ending, ownerless
from ostiary.store.plans import draft_since, plan_in_force
from ostiary.tls import authority

DISK_MIN_BYTES: Final = 500 * 1024 * 1024
SETTLES_S: Final = 1.0
SAID: Final = "the output of `ostiary up` says why"
KEEPS: Final = "`ostiary client change {0} --days 365`, or `--person user:WHO` and `ostiary client enable {0}`; or `ostiary client remove {0}`"
CONNECT_TIMEOUT_S: Final = 3.0


Check = tuple[str, Callable[[], str]]


class Note(str):
    """What a check found: no fault, and worth a look."""

    __slots__ = ()


def examine(home: Home) -> list[dict[str, Any]]:
    """`doctor`: every check that could be made, with its finding; where there is no installation, nothing else is."""
    try:
        with opened(home) as on:
            return [looked(name, check) for name, check in _from_outside(on)]
    except OstiaryError as problem:
        return [_unwell("installation", problem)]


def status(board: Board, _: str) -> dict[str, Any]:
    """The same as the running control sees it: a line for each part, and `ok` when all of them are."""
    found = [looked(name, check) for name, check in _from_inside(board)]
    parts = [{"name": one["check"], "ok": one["ok"], "note": one["note"], "text": one["text"]} for one in found]
    for part, one in zip(parts, found, strict=True):
        part["text"] += f" ({one['hint']})" if one["hint"] else ""
    return {"ok": all(one["ok"] for one in found), "parts": parts}


def _from_outside(on: Installation) -> Iterator[Check]:
    """In the order in which one thing rests on the next."""
    home = on.home
    yield "installation", lambda: str(home.root)
    yield "envoy", lambda: str(daemon.find(on.settings.envoy))
    yield "settings", lambda: fit(on)
    yield "keys", lambda: _keys(on)
    yield from _from_both(on, lambda: plan_in_force(home))
    yield "audit log", lambda: f"{verify(on.store, home).size} entries, as they were signed"
    for name in ("control", "identity", "guard", "envoy"):
        yield name, partial(answers, home, name)
    with suppress(OstiaryError):
        plan, told = plan_in_force(home), troubles(home)
        for system in plan.systems:
            yield system.name, partial(_reached, on, plan, system, told)
            yield f"{system.name} around", partial(_not_around, system)


def _from_inside(board: Board) -> Iterator[Check]:
    on, plan = board.on, board.reconciler.plan
    yield "gate", lambda: gate_in_force(board.gate, plan, on.settings.origin)
    yield "guard", lambda: guard_in_force(board.reconciler.guard_state(), plan)
    yield "identity", lambda: answers(on.home, "identity")
    yield "settings", lambda: as_started(on)
    yield from _from_both(on, lambda: plan, lambda: board.outbox.untold)
    yield "audit log", lambda: f"{check(on.store, on.home).size} entries"
    told = troubles(on.home)
    for system in plan.systems:
        yield f"system {system.name}", partial(_passed_on, board, plan, system, told)


def _from_both(on: Installation, plan: Callable[[], Plan], untold: Callable[[], str] = str) -> Iterator[Check]:
    """What files and store tell, whether anything runs or not; `untold`: why nobody outside hears of alerts."""
    yield "certificate", lambda: authority.standing(on.home, on.clock.now())
    yield "disk", lambda: room(on.home.root)
    yield "policy", lambda: policy(on, plan())
    yield "policy file", lambda: drift(on, plan()) or f"{on.home.policy.name} is what is in force"
    yield "waits", lambda: waiting(on.store)
    yield "controls", lambda: lasting(plan(), on.clock.now().date())
    yield "clients", lambda: lasting_clients(on.store, on.clock.now())
    yield "reviews", lambda: reviewed(on.store, on.clock.now())
    yield "watch", lambda: quiet(on.store, untold())


def looked(name: str, check: Callable[[], str]) -> dict[str, Any]:
    """What one check found; where it is not well, what to do."""
    try:
        text = check()
        return {"check": name, "ok": True, "note": isinstance(text, Note), "text": str(text), "hint": ""}
    except OstiaryError as problem:
        return _unwell(name, problem)
    except (OSError, DBAPIError) as problem:
        why = problem.orig if isinstance(problem, DBAPIError) else plainly(problem)
        return _unwell(name, SystemFault(name, f"it can't be looked at: {why}"))


def _unwell(name: str, problem: OstiaryError) -> dict[str, Any]:
    return {"check": name, "ok": False, "note": False, "text": problem.message, "hint": problem.hint}


def fit(on: Installation) -> str:
    """The files that the settings name can be used; without them nothing starts."""
    geoip, authorities = Path(on.settings.geoip_database), on.settings.upstream_authorities
    if on.settings.geoip_database and not is_database(geoip):
        told = f"geoip_database in settings.toml names {geoip}, which is no MMDB file"
        raise OperatorFault("geoip-unfit", told, hint="put one there, with a name in .mmdb, or leave the setting out")
    try:
        ssl.create_default_context(cafile=authorities or None)
    except OSError as problem:
        told = f"upstream_authorities in settings.toml names {authorities}: {plainly(problem)}"
        hint = "put a PEM file there, or leave the setting out"
        raise OperatorFault("authorities-unfit", told, hint=hint) from problem
    if stolen := passwords.stolen_list(on.home, on.settings):
        passwords.refuse_unfit_list(stolen)
    return "what they name can be used"


def _keys(on: Installation) -> str:
    on.store.ask(opens, on.sealer)
    return private(on.home.keys)


def opens(connection: Connection, sealer: Sealer) -> None:
    """The master key is the one under which the signing keys are sealed."""
    for kid in keys.active_kids(connection).values():
        keys.load(connection, sealer, kid)


def as_started(on: Installation) -> str:
    """What settings.toml says now counts from the next start."""
    if load_settings(on.home.settings) == on.settings:
        return "as they were at the start"
    told = "settings.toml was changed since the start, and counts from the next one"
    return Note(f"{told}: end `ostiary up` and start it again")


def policy(on: Installation, plan: Plan) -> str:
    since = draft_since(on.home)
    return applied(on.store, plan) + (f"; a draft is asked beside it since {stamp(since)}" if since else "")


def lasting(plan: Plan, today: date) -> str:
    """How many may do what is kept apart all the same; a fault once a control has ended, for the rule counts again."""
    found = {one for rule in plan.apart for one in rule.controls}
    if late := [one.message for one in ended(plan, today)]:
        hint = "set another day with whoever owns it, or take the control away, and apply the policy"
        raise SystemFault("control-ended", "; ".join(late), hint=hint)
    return f"{counted(len(found), 'control')} in place of a rule" if found else "every rule is kept"


def reviewed(store: Store, now: datetime) -> str:
    """That somebody has looked at every role that is held, in the last quarter."""
    if found := store.ask(giving.overdue, now):
        some = ", ".join(f"{who} {role}" for who, role in found[:3])
        told = f"nobody has looked for a quarter whether {counted(len(found), 'role')} is still needed: {some}"
        raise SystemFault("review-due", told, hint="see `ostiary review list --due`")
    return "every role that is held was looked at in the last quarter"


def lasting_clients(store: Store, now: datetime) -> str:
    if found := store.ask(clients_ending, now):
        told = few([f"{client} {why}" for client, why in found.items()])
        hint = few([KEEPS.format(client.partition(":")[2]) for client in found])
        raise SystemFault("client-ends", told, hint=hint)
    if nobodys := [one.partition(":")[2] for one in store.ask(ownerless)]:
        gives = f"`ostiary client change {nobodys[0]} --person user:WHO` says who answers for it"
        return Note(f"nobody answers for {few(nobodys)}, and nobody's leaving ends them: {gives}")
    return "none ends within two weeks, and whose they are is there"


def gate_in_force(gate: daemon.Gate, plan: Plan, origin: str) -> str:
    """Envoy answers, and has every file that was written last."""
    state = gate.state()
    if not state.live:
        raise SystemFault("gate-silent", "Envoy does not answer; nothing passes", hint=SAID)
    if (late := gate.behind(state)) and (behind := _still_behind(gate, late)):
        raise SystemFault("gate-behind", f"the gate has not taken {', '.join(behind)}", hint=SAID)
    return f"{origin}, revision {plan.revision}"


def _still_behind(gate: daemon.Gate, late: Sequence[str]) -> list[str]:
    """Envoy hears of a file a moment after it was written, and the lease is written all the time."""
    time.sleep(SETTLES_S)
    return [name for name in gate.behind(gate.state()) if name in late]


def guard_in_force(state: Mapping[str, Any], plan: Plan) -> str:
    if state["revision"] != plan.revision:
        told = f"the guard has revision {state['revision']!r}"
        raise SystemFault("guard-behind", told, hint="apply the policy again")
    if not state["fresh"]:
        raise SystemFault("guard-stale", "the guard can't read the store; it refuses all", hint=SAID)
    return f"revision {plan.revision}"


def applied(store: Store, plan: Plan) -> str:
    """Who put the policy in force; a fault while the last try to change it stands unmended."""
    with store.read() as connection:
        last = next(entries(connection, action=revisions.APPLY, limit=1), None)
        failed = next(entries(connection, action=revisions.ROLLED_BACK, limit=1), None)
    if last is None:
        raise unrecorded()
    why = failed["after"]["failed"] if failed and failed["index"] > last["index"] else "interrupted"
    if last["after"]["revision"] != plan.revision:
        told = f"revision {last['after']['revision']} did not come into force ({why}); the one before still is"
        raise SystemFault("policy-rolled-back", told, hint="mend what else is not ok here, then apply it again")
    return f"{last['object']}, revision {plan.revision}, applied by {last['actor']} at {last['at']}"


def drift(on: Installation, plan: Plan) -> str:
    """What to do where the policy beside the installation is not the one in force; "" where it is. A fault where it is none."""
    in_force, file = revisions.texts_of(on.store, plan.revision), on.home.policy
    try:
        here = read_policy(file)
        if in_force is None or (here.text, here.files) == in_force:
            return ""
        read_document(here)
    except OperatorFault as problem:
        told = f"{file.name} is not in force, and can't be as it is: {problem.message}"
        raise OperatorFault(problem.code, told, hint=problem.hint or "`ostiary policy check` says more") from problem
    instead = "`ostiary policy show --out FOLDER` writes what is in force, to copy over it"
    told = f"{file.name} differs from what is in force: `ostiary policy diff` says how"
    return Note(f"{told}, {to_apply(plan)} puts it in force; {instead}")


def to_apply(plan: Plan) -> str:
    """The command that the policy in force lets a change come by."""
    return "`ostiary policy propose`, once others say yes," if plan.approvals.policy else "`ostiary policy apply`"


def waiting(store: Store) -> str:
    """What others have to say yes to: no fault, and nothing to be overlooked."""
    with store.read() as connection:
        found = {kind: len(revisions.found(connection, kind)) for kind in revisions.Kind}
    told = [f"{number} in `ostiary {kind.listed}`" for kind, number in found.items() if number]
    return f"for somebody's yes: {', '.join(told)}" if told else "nothing waits for somebody's yes"


def quiet(store: Store, untold: str = "") -> str:
    """No emergency and no other alert; every one that there is is told, for one must not hide the others."""
    with store.read() as connection:
        begun = revisions.found(connection, revisions.Kind.BREAK_GLASS, revisions.State.BEGUN)
        firing = open_alerts(connection, but="break-glass" if begun else "")
    alerts = [f"{counted(firing, 'alert')} open"] if firing else []
    told = "; ".join(filter(None, [*map(revisions.given, begun), *alerts, untold]))
    where = [f"`ostiary {one} list`" for one, so in (("break-glass", begun), ("alert", firing)) if so]
    if where:
        raise SystemFault("break-glass" if begun else "alerts-open", told, hint=f"see {' and '.join(where)}")
    return Note(f"no alert; {untold}") if untold else "no alert"


def private(folder: Path) -> str:
    for path in sorted(folder.iterdir()):
        if path.suffix == ".key" and path.stat().st_mode & OTHERS:
            raise SystemFault("key-open", f"{path} can be read by others", hint=f"chmod 600 {path}")
    return "private"


def room(folder: Path) -> str:
    free = shutil.disk_usage(folder).free
    if free < DISK_MIN_BYTES:
        told = f"{free // 2**20} MiB free"
        raise SystemFault("disk-low", told, hint="make room: the gate closes before it loses events")
    return f"{free // 2**30} GiB free"


def answers(home: Home, name: str) -> str:
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(CONNECT_TIMEOUT_S)
            probe.connect(str(home.socket(name)))
    except OSError as problem:
        told = f"does not answer: {plainly(problem)}"
        raise SystemFault(f"{name}-silent", told, hint="start it with `ostiary up`") from problem
    return "answers"


def _reached(on: Installation, plan: Plan, system: System, troubled: Mapping[str, str]) -> str:
    try:
        socket.create_connection(host_and_port(system), CONNECT_TIMEOUT_S).close()
    except OSError as problem:
        raise _unreachable(f"{system.upstream}: {plainly(problem)}") from problem
    return known(on, plan, system, troubled)


def _passed_on(board: Board, plan: Plan, system: System, troubled: Mapping[str, str]) -> str:
    if not board.gate.healthy(cluster_name(system)):
        raise _unreachable(f"the gate does not reach {system.upstream}")
    return known(board.on, plan, system, troubled)


def _unreachable(told: str) -> SystemFault:
    return SystemFault("erp-unreachable", told, hint="start the ERP, or mend `upstream` in the policy")


def troubles(home: Home) -> Mapping[str, str]:
    """System -> why the gate's own ERP user was not let in; a guard that is silent is told elsewhere."""
    with suppress(OSError, OstiaryError):
        state = unix.call(home.socket("guard-control"), "internal/state", {}, timeout_s=CONNECT_TIMEOUT_S)
        return dict(state["troubles"])
    return {}


def known(on: Installation, plan: Plan, system: System, troubled: Mapping[str, str]) -> str:
    """Of a system that answers, that the gate knows what it offers, is let in to ask, and holds it to the policy."""
    reached, hint = f"{system.upstream} answers", f"`ostiary system account {system.name} --login LOGIN`"
    catalogue = learned(on.home.catalogue(system.name))
    if system.guarded and catalogue is None:
        told = f"{reached}, but what it offers is not known yet, so all is denied"
        raise OperatorFault("not-learned", told, hint=hint)
    if trouble := troubled.get(system.name):
        raise OperatorFault("erp-refuses", f"{reached}, but {trouble}: duties are not told apart", hint=hint)
    if system.kind is Kind.TRYTON and catalogue and not catalogue.whole:
        told = f"{reached}, but which of its fields write others was not learned, so more is refused than has to be"
        raise OperatorFault("not-learned", told, hint=f"`ostiary system learn {system.name}`")
    now = on.clock.now()
    if system.observed(now):
        raise SystemFault("observed", f"{reached}; {next(observed([system], now))}", hint="see the guide's observe.md")
    barred = _without_account(on, plan, system)
    return Note(f"{reached}; {barred}") if barred else reached


def _without_account(on: Installation, plan: Plan, system: System) -> str:
    """No fault, for a role may be held in vain; "" where each who holds one can call."""
    if not (barred := on.store.ask(without_account, plan, system)):
        return ""
    give = f"`{giving_account(barred[0], system.name)}` gives one"
    told = f"{counted(len(barred), 'holder')} of a role without an account there, for whom nothing passes"
    return f"{told}: {few(barred)}; {give}"


def _not_around(system: System) -> str:
    """The ERP must not answer where callers could reach it without the gate: on this machine's other addresses."""
    (host, port), own = host_and_port(system), _own_addresses()
    if not _is_here(host, own):
        return "not looked at: it is on another machine; let its port take calls from the gate alone"
    for address in own:
        if _connects(address, port):
            hint = "bind the ERP to 127.0.0.1, or close the port to all but this machine"
            raise SystemFault("erp-around", f"the ERP answers at {address}:{port}, around the gate", hint=hint)
    return "does not answer at any other address of this machine"


def _own_addresses() -> list[str]:
    """The addresses by which this machine speaks to others: the kernel chooses, and nothing is sent."""
    found = []
    for family, elsewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):  # RFC 5737, RFC 3849
        with socket.socket(family, socket.SOCK_DGRAM) as probe, suppress(OSError):
            probe.connect((elsewhere, 9))
            found.append(str(probe.getsockname()[0]))
    return found


def _is_here(host: str, own: Sequence[str]) -> bool:
    with suppress(OSError):  # no name of this machine
        addresses = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
        return any(address in own or ip_address(address).is_loopback for address in addresses)
    return False


def _connects(address: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((address, port), CONNECT_TIMEOUT_S):
        return True
    return False


def is_up(home: Home, name: str) -> bool:
    """Whether somebody listens at the socket of `name`."""
    return bool(looked(name, lambda: answers(home, name))["ok"])
