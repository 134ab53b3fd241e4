"""What lies behind a refusal that no line of the policy decided: what was noted, who took a token back, who is silent."""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection, or_, select

from ostiary.audit.log import Entry
from ostiary.control import proposals
from ostiary.control.proposals import State
from ostiary.envoy.matcher import denied_by
from ostiary.erp import openapi
from ostiary.erp.openapi import Table
from ostiary.erp.operation import covering_scopes, operation_named
from ostiary.event import record
from ostiary.event.record import NONE, Event
from ostiary.foundation.home import Home
from ostiary.plan.model import Kind, Plan, System
from ostiary.plan.reason import NO_ACCOUNT, Reason
from ostiary.prove.decisions import Explanation
from ostiary.store.directory import emergency_mark, erp_account
from ostiary.store.tables.audit import AUDIT_LEAF
from ostiary.store.tables.identity import CLIENT

# The acts by which tokens that are out end.
ENDING: Final = (
    "token.revoke", "principal.disable", "principal.roles", "principal.remove", "user.password", "client.change",
    "break-glass.begin", "break-glass.end",
)  # fmt: skip
CONNECTION_FLAGS: Final = frozenset({"UF", "UH", "UC", "UR", "UT", "URX"})  # Envoy's words for an upstream that fails
NONE_TO_HAND: Final = denied_by(Reason.UNAVAILABLE, "")  # in the gate itself only the hand-over says so
PARAMETER: Final = re.compile(r"\{[^{}]*\}")  # in a path of a document
GIVEN: Final = frozenset({"issued", "allowed", "shown", "sent", "done"})


def noted(note: dict[str, Any]) -> Explanation:
    """How a sign-in or a token request ended, by the identity server's own line; "" where it tells nothing."""
    outcome, action, account = (str(note.get(name, "")) for name in ("outcome", "action", "account"))
    client, why = str(note.get("client", "")), str(note.get("why", ""))
    by = f" by client:{client}" if client else ""
    if outcome in GIVEN:
        return Explanation(reason=outcome, sentence=f"{action} was answered: {outcome}{by}")
    if outcome == "locked":
        whose = account or "a name that there is not"
        told = f"{whose} was locked for {note.get('locked_s')} s more, from this place: five wrong tries before"
        return Explanation(reason=outcome, sentence=f"{action} was refused: {told}", would_allow=_unlock(account))
    if outcome in {"wrong", "cloned"}:
        nobody = "no such user who may sign in (the name is not kept)"
        why = f"{why or 'wrong password'} for {account}" if account else why or nobody
    would = (f"the secret of {client}: `ostiary client rotate {client}` gives another",) if "secret" in why else ()
    told = f": {why}{by}" if why else by
    return Explanation(reason=outcome, sentence=f"{action} was refused: {outcome}{told}", would_allow=would)


def _unlock(account: str) -> tuple[str, ...]:
    login = account.removeprefix("user:")
    new = (f"a new password: `ostiary user password {login}`",) if login else ()
    return ("waiting for so long", *new)


def behind(  # noqa: PLR0911, PLR0917  what is known of it
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
    system = next((one for one in plan.systems if one.name == event.system), None)
    match event.reason:
        case Reason.TOKEN_REVOKED if act := _took_back(connection, event):
            return replace(told, sentence=f"{told.sentence}: {act}")
        case Reason.UNKNOWN_OPERATION if system:
            return _unknown(home, plan, system, event, told, texts)
        case Reason.SCOPE if step := _wider(connection, event):
            return replace(told, sentence=f"{told.sentence}, for its client may not ask for it", would_allow=(step,))
        case Reason.ERP_REFUSES:
            kind, _, name = event.subject.partition(":")
            new = f"another key or password: `ostiary {kind} account {name} --system {event.system} --login LOGIN`"
            return replace(told, sentence=f"{told.sentence}{detail and ': '}{detail}", would_allow=(new,))
        case Reason.UNAVAILABLE if system and CONNECTION_FLAGS & set(event.flags.split(",")):
            would = f"{system.name}, answering at {system.upstream}", *told.would_allow
            return replace(told, sentence=f"{told.sentence}: {system.name} does not answer", would_allow=would)
        case Reason.UNAVAILABLE if system and (detail.startswith(NO_ACCOUNT) or event.details.startswith(NONE_TO_HAND)):
            kind, _, name = event.subject.partition(":")
            step = f"an account: `ostiary {kind} account {name} --system {system.name} --login LOGIN`"
            if erp_account(connection, event.subject, system.name):
                step = "an account, which was given since"
            why = f"{told.sentence}: {event.subject} had no account in {system.name}"
            return replace(told, sentence=why, would_allow=(step,))
    return told


def emergency(connection: Connection, roles: frozenset[str]) -> str:
    """Who gave the role for a time that is among these, and why; "" where none is."""
    begun = proposals.found(connection, proposals.Kind.BREAK_GLASS, State.BEGUN, State.ENDED)
    return next((proposals.given(one) for one in begun if emergency_mark(one.id) in roles), "")


def _unknown(  # noqa: PLR0917  what is known of it
    home: Home, plan: Plan, system: System, event: Event, told: Explanation, texts: Mapping[str, str]
) -> Explanation:
    """Of a system that nobody asked yet what it offers, everything is unknown; of another one, what it has instead."""
    if system.kind is Kind.TRYTON:
        step = f"`ostiary system account {system.name} --login LOGIN`: the gate then learns what {system.name} offers"
        return told if home.catalogue(system.name).exists() else replace(told, would_allow=(step,))
    path, routes = event.path.removeprefix(system.prefix), [one for one in plan.routes if one.system == system.name]
    table = Table(routes)
    found = sorted(method for method in {one.method for one in routes} if table.find(method, path))
    why = f"nothing in {system.spec} is {event.method} {path}" + (f", but {' and '.join(found)}" if found else "")
    would = f"what {system.spec} describes, unknown means denied: `ostiary policy draft --from {system.name}` lists it"
    if said := _left_out(texts.get(system.spec, ""), system, f"{event.method} {path}"):
        return replace(told, sentence=f"{told.sentence}: {said}", would_allow=(f"{system.spec}, once it is mended",))
    left_out = f"what {system.spec} has and is left out, once it is mended: `ostiary policy check` notes it"
    return replace(told, sentence=f"{told.sentence}: {why}", would_allow=(would, left_out))


def _left_out(text: str, system: System, call: str) -> str:
    """What of the document is left out that the call is about, and why; "" where nothing is."""
    for one in openapi.load(text.encode(), system.name).problems if text else ():
        if one.call and _meant(one.call, call):
            return str(one)
    return ""


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
    asked, done = select(CLIENT.c.scopes).where(CLIENT.c.principal == f"client:{event.client}"), event.operation
    scopes, did = (connection.scalar(asked) or "").split(), operation_named(done)
    if not scopes or did is None or set(scopes) & set(covering_scopes(did)):
        return ""
    wider = " ".join(f"--scope {one}" for one in (*scopes, done))
    return f"a client that may ask for it, and a new token: `ostiary client change {event.client} {wider}`"


def _took_back(connection: Connection, event: Event) -> str:
    """The newest act before the request that ends tokens of this caller, this client or this sign-in."""
    client = NONE if event.client == NONE else f"client:{event.client}"
    meant = {name for name in (event.subject, client, event.grant) if name != NONE}
    named = or_(*(AUDIT_LEAF.c.entry.contains(f'"object":"{name}"', autoescape=True) for name in sorted(meant)))
    chosen = select(AUDIT_LEAF.c.entry).where(AUDIT_LEAF.c.action.in_(ENDING), named)
    for text in connection.scalars(chosen.order_by(AUDIT_LEAF.c.number.desc())) if meant else ():
        entry = msgspec.json.decode(text, type=Entry)
        if entry.object in meant and entry.at <= event.at:
            why = f", because: {entry.reason}" if entry.reason else ""
            return f"{entry.action} of {entry.object} by {entry.actor} at {record.stamp(entry.at)}{why}"
    return ""
