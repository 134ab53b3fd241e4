"""What happened: decisions explained, events, the audit log, backups; from files and store alone, nothing has to run."""

import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import to_builtins
from sqlalchemy import Connection

from ostiary.audit.log import entries, verified, verify
from ostiary.control import grounds, revisions
from ostiary.control.documents import read_document, read_policy
from ostiary.control.installation import Installation, opened, refuse_empty
from ostiary.control.recorded import Used, circumstances
from ostiary.control.revisions import plan_of
from ostiary.erp.operation import operation_named
from ostiary.event import record
from ostiary.event.record import NONE, Event
from ostiary.foundation.clock import SystemClock
from ostiary.foundation.errors import CallerFault, OperatorFault
from ostiary.foundation.home import Home
from ostiary.identity import roster
from ostiary.monitor.usage import Use, patterns
from ostiary.plan.reason import Reason
from ostiary.prove.decisions import Asked, Explanation
from ostiary.prove.decisions import explain as explained
from ostiary.store import backup
from ostiary.store.directory import role_sets
from ostiary.store.plans import plan_in_force

WRITTEN_WITHIN: Final = timedelta(seconds=2)  # Envoy writes its log at least every second
RECENT: Final = timedelta(minutes=1)  # what began before was written long ago
LOOK_EVERY_S: Final = 0.05
ACTIONS: Final = (  # of the audit log
    "account.remove", "account.set", "alert.acknowledge", "alert.resolve", "break-glass.approve",
    "break-glass.begin", "break-glass.end", "break-glass.propose", "client.add", "client.certificate",
    "client.change", "client.rotate", "client.untold", "device.add", "device.remove", "factor.add", "factor.remove",
    "key.reseal", "key.rotate", "measure.make", "measure.undo", revisions.APPLY, "policy.approve", "policy.done",
    "policy.propose", "policy.rejected", "policy.renewed", revisions.ROLLED_BACK, revisions.SHADOW,
    revisions.SHADOW_END, "principal.disable", "principal.enable", "principal.remove", "principal.roles",
    "provider.add", "provider.change", "provider.link", "provider.remove", "provider.secret", "provisioning.allow",
    "provisioning.stop", "registration.close", "registration.open", "review.keep", "review.remove", "roles.approve",
    "roles.done", "roles.propose", "roles.rejected", "session.end", "system.add", "token.revoke", "user.add",
    "user.change", "user.password",
)  # fmt: skip


def explain(home: Home, decision: str) -> dict[str, Any]:
    """Why a request was decided so, by the plan that was in force then, and what would have allowed it."""
    with opened(home) as on:
        event = _found(on, decision)
        guard = record.guard_line(home.guard_log, decision) or {}
        detail = str(guard.get("detail", ""))
        plan, brief = plan_of(on.store, event.revision), ""
        reason = next((one for one in Reason if one == event.reason), None)
        if note := record.guard_line(home.identity_log, decision):
            told = grounds.noted(note)
        elif plan is None or reason is None:
            why = f": {reason.words}" if reason else ""
            told = Explanation(reason=event.reason, sentence=f"it was answered with {event.status}{why}")
        else:
            asked = _asked(on, event, reason, inside=bool(guard))
            _, texts = revisions.texts_of(on.store, event.revision) or ("", {})
            told = explained(plan, asked, plan_in_force(home))
            with on.store.read() as connection:
                told = grounds.behind(connection, home, plan, event, told, detail, texts)
                brief = grounds.emergency(connection, asked.roles) if event.emergency else ""
    return {
        "decision": decision,
        "text": _text(event, told, detail, brief),
        "explanation": to_builtins(told),
        "event": record.shape(event),
        "guard": guard,
    }


def _found(on: Installation, decision: str) -> Event:
    """The event of a decision; one that was made a moment ago may still be on its way to the log."""
    began, log, now = record.decided_at(decision), on.home.access_log, on.clock.now
    until = now() + (WRITTEN_WITHIN if began is not None and now() - began < RECENT else timedelta())
    try:
        while (found := record.find_decision(log, decision)) is None and now() < until:
            time.sleep(LOOK_EVERY_S)
    except record.TooMuch:
        found = None
    if found is None:
        hint = "copy it from the refusal's `ostiary-decision` header; `ostiary event list` shows the latest"
        raise CallerFault("no-decision", f"no event has the decision id {decision!r}", hint=hint)
    return found


def _asked(on: Installation, event: Event, reason: Reason, *, inside: bool) -> Asked:
    with on.store.read() as connection:
        roles = role_sets(connection).get(event.role_set, frozenset())
    return Asked(
        reason=reason,
        rule=event.rule,
        operation=operation_named(event.operation),
        roles=roles,
        here=None if event.source == NONE else circumstances(event),
        subject="" if event.subject == NONE else event.subject,
        inside=inside,
    )


def _text(event: Event, told: Explanation, detail: str, brief: str) -> str:
    who = event.subject if event.subject != NONE else "somebody"
    lines = [f"{record.stamp(event.at)}  {who} from {event.source}: {event.method} {event.path}", told.sentence]
    lines += [f"because: {detail}"] if detail else []
    lines += [f"break-glass: {brief}"] if brief else []
    lines += _listed("the policy says:", told.lines)
    lines += _listed("it would have been allowed by:", told.would_allow)
    return "\n".join([*lines, f"decision {event.decision}, revision {event.revision}"])


def _listed(title: str, lines: Sequence[str]) -> list[str]:
    return [title, *(f"  {line}" for line in lines)] if lines else []


def list_events(home: Home, wanted: record.Filter, limit: int = 20) -> list[dict[str, Any]]:
    """Requests, the newest first; refuses a reason that there is not, and a name that says not whose it is."""
    refuse_empty(home)
    if wanted.reason and wanted.reason not in set(Reason):
        hint = f"one of: {', '.join(Reason)}"
        raise CallerFault("no-such-reason", f"there is no reason {wanted.reason!r}", hint=hint)
    if wanted.principal and ":" not in wanted.principal:
        wanted = msgspec.structs.replace(wanted, principal=_in_full(home, wanted.principal))
    found: list[dict[str, Any]] = []
    try:
        found.extend(map(record.shape, record.find(home.access_log, wanted, limit=limit)))
    except record.TooMuch:
        if not found:
            told = f"among the newest events, {record.READ_MAX_BYTES >> 20} MiB of them, there is none like that"
            hint = f"older ones stand in {home.events}, one JSON line each"
            raise CallerFault("too-much-to-read", told, hint=hint) from None
    return found


def usage(home: Home, days: int = 30) -> dict[str, Any]:
    """What each caller does as a rule, and what of the last day is unlike it; `whole`: all of it was read and kept."""
    refuse_empty(home)
    now = SystemClock().now()
    found = Used(home, now - timedelta(days=days), {})
    uses = (
        Use(one.decision, one.principal, one.facts.here.at, str(one.facts.here.source), one.facts.operations)
        for one in found
    )
    habits, unusual = patterns(uses, now)
    return {"unusual": to_builtins(unusual), "usual": to_builtins(habits), "whole": found.whole}


def _in_full(home: Home, name: str) -> str:
    """`user:anna` of `anna`, where one principal alone is called so."""
    with opened(home) as on, on.store.read() as connection:
        meant = [one["id"] for one in (*roster.users(connection), *roster.clients(connection))]
    meant = [one for one in meant if one.partition(":")[2] == name]
    if len(meant) != 1:
        told = f"{' and '.join(meant)} are both called {name}" if meant else f"nobody is called {name}"
        raise CallerFault("principal-unclear", told, hint=f"write user:{name} or client:{name}")
    return str(meant[0])


def list_entries(home: Home, action: str = "", limit: int = 20) -> list[dict[str, Any]]:
    """Administrative acts, the newest first; refuses an action that there is not."""
    if action and action not in ACTIONS:
        hint = f"one of: {', '.join(ACTIONS)}"
        raise CallerFault("no-such-action", f"there is no action {action!r}", hint=hint)
    with opened(home) as on, on.store.read() as connection:
        return list(entries(connection, action=action, limit=limit))


def verify_audit(home: Home) -> dict[str, Any]:
    """Recomputes the log and holds it against its signed head."""
    with opened(home) as on:
        tree = verify(on.store, home)
    text = f"the audit log holds: {tree.size} entries, root {tree.root.hex()}"
    return {"size": tree.size, "root": tree.root.hex(), "text": text}


def back_up(home: Home, out: Path) -> dict[str, Any]:
    """Of what could be restored only: an audit log that does not hold is refused here, not when it is too late."""
    named, note = _named(home)
    with opened(home) as on:
        verify(on.store, home)
        backup.backup(home, on.store, out, named)
    return {"file": str(out), "bytes": out.stat().st_size, "warnings": note}


def _named(home: Home) -> tuple[Iterable[str], list[str]]:
    """The files that the policy beside the installation names, and what keeps it from naming all."""
    named: Iterable[str] = ()
    try:
        document = read_policy(home.policy)
        named = document.files
        read_document(document)  # one with mistakes names no OpenAPI document
    except OperatorFault as problem:
        return named, [f"files that {home.policy.name} names may be missing in it: {problem.message}"]
    return named, []


def restore_from(home: Home, file: Path, store_url: str = "") -> dict[str, Any]:
    """Into an empty home and store: an audit log that does not hold is not restored, and the watch begins anew."""
    from ostiary.monitor.watch import begin_anew  # its HTTP client takes a while to import

    def finish(connection: Connection) -> None:
        verified(connection, home)
        begin_anew(connection)

    backup.restore(file, home, store_url, finish=finish).close()
    return {"home": str(home.root)}
