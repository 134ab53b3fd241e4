"""Why a request was decided so, and what lies behind where no line of the policy decided."""

import json
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec
from msgspec import to_builtins
from msgspec.structs import replace
from sqlalchemy import Connection, or_, select

from ostiary.audit.log import Entry
from ostiary.control import revisions
from ostiary.control.evidence import ACTS, by_gate, by_guard
from ostiary.control.installation import Installation, opened
from ostiary.control.questions import assigned, giving_account
from ostiary.control.revisions import State, plan_of, texts_of
from ostiary.envoy.matcher import denied_by
from ostiary.erp import openapi
from ostiary.erp.openapi import Table
from ostiary.erp.operation import covering_scopes, operation_named
from ostiary.event import record
from ostiary.event.record import NONE, Event
from ostiary.foundation.clock import stamp
from ostiary.foundation.errors import CallerFault
from ostiary.foundation.home import Home
from ostiary.guard.journal import Line
from ostiary.identity.names import DISABLED, ENDED, SHUT
from ostiary.plan.decide import NO_ACCOUNT, Reason
from ostiary.plan.model import Plan, System
from ostiary.prove.questions import A_SCOPE, Asked, Explanation
from ostiary.prove.questions import explain as explained
from ostiary.prove.rules import few
from ostiary.store.directory import emergency_mark, erp_account, person_of, role_sets
from ostiary.store.plans import plan_in_force
from ostiary.store.tables import AUDIT_LEAF, CLIENT, PRINCIPAL

WRITTEN_WITHIN: Final = timedelta(seconds=2)  # Envoy writes its log at least every second
RECENT: Final = timedelta(minutes=1)  # what began before was written long ago
LOOK_EVERY_S: Final = 0.05
CONNECTION_FLAGS: Final = frozenset({"UF", "UH", "UC", "UR", "UT", "URX"})  # Envoy's words for an upstream that fails
NONE_TO_HAND: Final = denied_by(Reason.UNAVAILABLE, "")  # in the gate itself only the hand-over says so
PARAMETER: Final = re.compile(r"\{[^{}]*\}")  # in a path of a document
AGAIN: Final = {DISABLED: "enable {}", ENDED: "change {} --days 365"}  # why no client proves itself -> what ends that
GIVEN: Final = frozenset({"issued", "served", "allowed", "shown", "sent", "done", "kept", "active", "inactive"})


def explain(home: Home, decision: str) -> dict[str, Any]:
    """Why a request was decided so, by the plan that was in force then, and what would have allowed it."""
    with opened(home) as on:
        event, guard = _found(on, decision)
        detail = str(guard.get("detail", ""))
        plan, brief = plan_of(on.store, event.revision), ""
        reason = next((one for one in Reason if one == event.reason), None)
        note = record.guard_line(home.identity_log, decision)
        if note and not (note["action"] == "key" and note["outcome"] in GIVEN):  # then it was judged as any other
            told = noted(note)
        elif plan is None or reason is None:
            why = f": {reason.words}" if reason else ""
            told = Explanation(reason=event.reason, sentence=f"it was answered with {event.status}{why}")
        else:
            _, texts = texts_of(on.store, event.revision) or ("", {})
            with on.store.read() as connection:
                asked = _asked(connection, event, reason, guard)
                told = explained(plan, asked, plan_in_force(home))
                told = behind(connection, home, plan, event, told, detail, texts)
                brief = emergency(connection, asked.facts.roles) if event.emergency else ""
    return {
        "decision": decision,
        "text": _text(event, told, detail, brief),
        "explanation": to_builtins(told),
        "event": record.shape(event),
        "guard": guard,
    }


def _found(on: Installation, decision: str) -> tuple[Event, dict[str, Any]]:
    """The event of a decision, and the guard's line; what was decided a moment ago may still be on its way to the logs."""
    began, home, now = record.decided_at(decision), on.home, on.clock.now
    until = now() + (WRITTEN_WITHIN if began is not None and now() - began < RECENT else timedelta())
    found = guard = None
    with suppress(record.TooMuch):
        while True:
            found = found or record.find_decision(home.access_log, decision)
            guard = record.guard_line(home.guard_log, decision)
            if (found and (guard or not found.guard_us)) or now() >= until:
                break
            time.sleep(LOOK_EVERY_S)
    if found is None:
        hint = "copy it from the refusal's `ostiary-decision` header; `ostiary event list` shows the latest"
        raise CallerFault("no-decision", f"no event has the decision id {decision!r}", hint=hint)
    return found, guard or {}


def _asked(connection: Connection, event: Event, reason: Reason, guard: Mapping[str, Any]) -> Asked:
    """By the guard's line, which names all of a call; by the event where there is none, or one of an earlier release."""
    roles, who = role_sets(connection), event.subject
    known = by_gate(event, roles)
    with suppress(ValueError, TypeError):
        known = by_guard(msgspec.convert(guard, Line), roles) if guard else known
    return Asked(
        reason=reason,
        rule=event.rule,
        did=operation_named(event.operation),
        facts=known.facts,
        whole=known.whole,
        subject="" if who == NONE else who,
        besides=assigned(connection).get(person_of(connection, who), frozenset()),
        inside=bool(guard),
    )


def _text(event: Event, told: Explanation, detail: str, brief: str) -> str:
    who = event.subject if event.subject != NONE else "somebody"
    lines = [f"{stamp(event.at)}  {who} from {event.source}: {event.method} {event.path}", told.sentence]
    lines += [f"because: {detail}"] if detail else []
    lines += [f"break-glass: {brief}"] if brief else []
    lines += _listed("the policy says:", told.lines)
    lines += _listed("it would have been allowed by:", told.would_allow)
    return "\n".join([*lines, f"decision {event.decision}, revision {event.revision}"])


def _listed(title: str, lines: Sequence[str]) -> list[str]:
    return [title, *(f"  {line}" for line in lines)] if lines else []


def noted(note: dict[str, Any]) -> Explanation:
    """How a sign-in or a token request ended, by the identity server's own line; "" where it tells nothing."""
    asked = ("outcome", "action", "account", "client", "why")
    outcome, action, account, client, why = (str(note.get(name, "")).removeprefix(NONE) for name in asked)
    if who := str(note.get("subject", account)):
        action = f"{action} of {who}" + (f" through client:{client}" if client and who != f"client:{client}" else "")
    elif client:
        action = f"{action} by client:{client}"
    if outcome in GIVEN:
        return Explanation(reason=outcome, sentence=f"{action} was {outcome}")
    if outcome == "locked":
        whose = account or "a name that there is not"
        because = f"{whose} was locked for {note.get('locked_s')} s more, from this place: five wrong tries before"
        return Explanation(reason=outcome, sentence=f"{action} was refused: {because}", would_allow=_unlock(account))
    why += f": {note['sent']}" if "sent" in note else ""
    if shut := why == SHUT:
        why = f"{account} is disabled"
    elif outcome in {"wrong", "cloned"}:
        why = why or ("wrong password" if account else "no such user who may sign in (the name is not kept)")
    what = next((one for one in ("secret", "API key") if one in why), "")
    would = (f"the {what} of {client}: `ostiary client rotate {client}` gives another",) if what else ()
    would = (f"its client again: `ostiary client {AGAIN[why].format(client)}`",) if why in AGAIN else would
    would = (f"the account again: `ostiary {' enable '.join(account.split(':', 1))}`",) if shut else would
    because = ": ".join(filter(None, (outcome.removeprefix("wrong"), why)))
    return Explanation(reason=outcome, sentence=f"{action} was refused: {because}", would_allow=would)


def _unlock(account: str) -> tuple[str, ...]:
    login = account.removeprefix("user:")
    new = (f"a new password: `ostiary user password {login}`",) if login else ()
    return ("waiting for so long", *new)


def behind(  # noqa: PLR0917  what is known of it
    connection: Connection,
    home: Home,
    plan: Plan,
    event: Event,
    told: Explanation,
    detail: str = "",
    texts: Mapping[str, str] = {},
) -> Explanation:
    """With who took the token back, when and why; what the system does not know; who had no account there; its silence.

    `detail`: what the guard wrote of it; `texts`: the documents of that revision.
    """
    system, why, would = next((one for one in plan.systems if one.name == event.system), None), "", told.would_allow
    account = f"`{giving_account(event.subject, event.system)}`"
    match event.reason:
        case Reason.TOKEN_REVOKED if act := _took_back(connection, event):
            first = "".join(f"{step}, and then " for step in _enabling(connection, event))
            why, would = f": {act}", tuple(f"{first}{one}" for one in would)
        case Reason.TOKEN_INVALID:
            why = next((f": {meant}" for said, meant in ACTS["amiss"].items() if f"{{{said}" in event.details), "")
        case Reason.UNKNOWN_OPERATION if system:
            why, would = _unknown(home, plan, system, event, texts, detail) or ("", would)
        case Reason.UNKNOWN_OPERATION:
            stand = few([f"{one.name} is at {one.host}{one.prefix}" for one in plan.systems])
            why = f": nothing stands at {event.host}{event.path}; {stand}"
        case Reason.SCOPE if step := _wider(connection, event):
            scope = A_SCOPE.format(event.operation)
            why, would = ", for its client may not ask for it", tuple(one.replace(scope, step) for one in would)
        case Reason.ERP_REFUSES:
            why, would = f"{detail and ': '}{detail}", (f"another key or password: {account}",)
        case Reason.UNAVAILABLE if system and CONNECTION_FLAGS & set(event.flags.split(",")):
            why, would = f": {system.name} does not answer", (f"{system.name}, answering at {system.upstream}", *would)
        case Reason.UNAVAILABLE if system and (detail.startswith(NO_ACCOUNT) or event.details.startswith(NONE_TO_HAND)):
            given = erp_account(connection, event.subject, system.name)
            why = f": {event.subject} had no account in {system.name}"
            would = ("an account, which was given since" if given else f"an account: {account}",)
    return replace(told, sentence=told.sentence + why, would_allow=would)


def emergency(connection: Connection, roles: frozenset[str]) -> str:
    """Who gave the role for a time that is among these, and why; "" where none is."""
    begun = revisions.found(connection, revisions.Kind.BREAK_GLASS, State.BEGUN, State.ENDED)
    return next((revisions.given(one) for one in begun if emergency_mark(one.id) in roles), "")


def _unknown(  # noqa: PLR0917  what is known of it
    home: Home, plan: Plan, system: System, event: Event, texts: Mapping[str, str], detail: str
) -> tuple[str, tuple[str, ...]] | None:
    """Of a system that nobody asked yet what it offers, everything is unknown; of another one, what it has instead."""
    if system.guarded:
        step = f"`ostiary system account {system.name} --login LOGIN`: the gate then learns what {system.name} offers"
        if learned := home.catalogue(system.name).exists():
            step = f"what {system.name} offers; `ostiary system learn {system.name}` learns what is new there"
        return None if learned and not detail else ("", (step,))
    path, routes = event.path.removeprefix(system.prefix), [one for one in plan.routes if one.system == system.name]
    call = f"{event.method} {path}"
    if said := _left_out(texts.get(system.spec, ""), system, call):
        return f": {said}", (f"{system.spec}, once it is mended",)
    table = Table(routes)
    found = sorted(method for method in {one.method for one in routes} if table.find(method, path))
    known = (f"{one.method} {one.template}" for one in routes)
    alike = [one for one in known if _meant(one.casefold(), call.casefold()) and not _meant(one, call)]
    why = f": nothing in {system.spec} is {call}" + (f", but {' and '.join(found)}" if found else "")
    would = f"what {system.spec} describes, unknown means denied: `ostiary policy draft --from {system.name}` lists it"
    left_out = f"what {system.spec} has and is left out, once it is mended: `ostiary policy check` notes it"
    return why + (f", but {alike[0]} is, in other letters" if alike else ""), (would, left_out)


def _left_out(text: str, system: System, call: str) -> str:
    """What of the document is left out that the call is about, and why; "" where nothing is."""
    problems = openapi.load(text.encode(), system.name).problems if text else ()
    return next((str(one) for one in problems if one.call and _meant(one.call, call)), "")


def _meant(template: str, call: str) -> bool:
    """Whether this operation, or every one of this path, is asked for. Step by step: the path is whatever a caller
    wrote, and one expression for `/{a}-{b}-{c}` would be read for days.
    """
    method, path = template.split(" ", 1) if " " in template else ("", template)
    asked, _, at = call.partition(" ")
    forms, steps = [PARAMETER.sub("?*", form) for form in path.split("/")], at.split("/")
    return method in {"", asked} and len(forms) == len(steps) and all(map(fnmatchcase, steps, forms))


def _wider(connection: Connection, event: Event) -> str:
    """How a client may ask for what was done, where its own scopes leave that out; "" where they do not."""
    asked, done = select(CLIENT.c.facts).where(CLIENT.c.principal == f"client:{event.client}"), event.operation
    scopes, did = json.loads(connection.scalar(asked) or '{"scopes": []}')["scopes"], operation_named(done)
    if not scopes or did is None or set(scopes) & set(covering_scopes(did)):
        return ""
    wider = " ".join(f"--scope {one}" for one in (*scopes, done))
    return f"a client that may ask for it, and a new token: `ostiary client change {event.client} {wider}`"


def _enabling(connection: Connection, event: Event) -> list[str]:
    """How whoever of caller and client is disabled now is let in again."""
    meant = {event.subject, f"client:{event.client}"}
    shut = connection.scalars(select(PRINCIPAL.c.id).where(PRINCIPAL.c.id.in_(meant), PRINCIPAL.c.active.is_(False)))
    return [f"`ostiary {' enable '.join(one.split(':', 1))}`" for one in sorted(shut)]


def _took_back(connection: Connection, event: Event) -> str:
    """The newest act between sign-in and request that ends this token, or those of its caller, client or sign-in."""
    client = NONE if event.client == NONE else f"client:{event.client}"
    meant = {name for name in (event.subject, client, event.grant, event.jti) if name != NONE}
    named = or_(*(AUDIT_LEAF.c.entry.contains(f'"object":"{name}"', autoescape=True) for name in sorted(meant)))
    chosen = select(AUDIT_LEAF.c.entry).where(AUDIT_LEAF.c.action.in_(ACTS["ending"]), named)
    for text in connection.scalars(chosen.order_by(AUDIT_LEAF.c.number.desc())) if meant else ():
        entry = msgspec.json.decode(text, type=Entry)
        if entry.object in meant and event.signed_in_s <= entry.at.timestamp() and entry.at <= event.at:
            why = f", because: {entry.reason}" if entry.reason else ""
            return f"{entry.action} of {entry.object} by {entry.actor} at {stamp(entry.at)}{why}"
    return ""
