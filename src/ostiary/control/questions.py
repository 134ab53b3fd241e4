"""Questions about the policy and who holds it, and pages of the answers: from files and store alone."""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import resources
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, TypeVar

from msgspec import convert, to_builtins
from msgspec.structs import replace
from sqlalchemy import Connection, select, union

from ostiary.control import revisions
from ostiary.control.documents import observed, offers, prove_document, read_document
from ostiary.control.evidence import PART, Used
from ostiary.control.installation import Installation, opened
from ostiary.erp.operation import Operation, operation_named
from ostiary.foundation.clock import SystemClock, stamp
from ostiary.foundation.errors import CallerFault
from ostiary.foundation.home import Home, write_atomically
from ostiary.identity import principals
from ostiary.plan.model import HandOver, Plan, System
from ostiary.policy import words
from ostiary.policy.document import Document
from ostiary.prove import questions
from ostiary.prove.changes import diff
from ostiary.prove.rules import Among, Finding, both, changed, ended, known
from ostiary.prove.situation import NEVER, SOMEWHERE, Situation
from ostiary.prove.spelling import slip, slips
from ostiary.store.database import Store
from ostiary.store.directory import role_sets
from ostiary.store.plans import plan_in_force, revision_in_force
from ostiary.store.tables import ASSIGNMENT, ERP_ACCOUNT, PRINCIPAL, PROPOSAL

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet would run (CWE-1236)
COLUMNS: Final = ("name", "role", "permission", "when", "rule", "line")
Brief = tuple[str, str, str]  # principal, role, and until when it is held in an emergency
Part = tuple[str, str, list[questions.Way]]  # what it is about, more about it, and the ways
_ALWAYS: Final = select(PRINCIPAL.c.id, PRINCIPAL.c.person, ASSIGNMENT.c.role).join(ASSIGNMENT)
_FOR_A_TIME: Final = select(PRINCIPAL.c.id, PRINCIPAL.c.person, PROPOSAL.c.role).where(
    PROPOSAL.c.principal == PRINCIPAL.c.id, PROPOSAL.c.state == revisions.State.BEGUN
)
# Id, person and role of all that is held, for good or for a time.
HELD: Final = union(_ALWAYS, _FOR_A_TIME).subquery()
T = TypeVar("T")


def prove(document: Document, home: Home, days: int, since: int | None = None) -> dict[str, Any]:
    """Raises where the document says what must not be; else what is to be known of it, by question.

    `since`: the number of a revision that it is held against, with all that changed; else the one in force.
    """
    with opened(home) as on, on.store.read() as connection:
        held, holders, near = assigned(connection), holders_of(connection), Situation(on.clock.now())
        before = revisions.plan_kept(connection, since) if since else plan_in_force(home)
        sets = role_sets(connection)
    uses, known_since = _uses(home, sets, near.at, days)
    plan, proof = prove_document(document, home, on.settings, held, near)
    changes = diff(before, plan, holders)
    wider = (one for one in changes if one.widens and one.permission)
    found: Mapping[str, Iterable[Finding]] = {
        "new access": (Finding(message=one.text, requests=known(one.request)) for one in wider),
        "both duties": both(plan, held, dynamic=True, near=near, on=near.at.date()),
        "idle lines": questions.idle(plan, near),
        "more than was used": questions.unused(plan, uses, days, near, before),
        **(changed(before, plan, held, near, near.at.date()) if since else {}),
    }
    answers = {question: [to_builtins(one) for one in findings] for question, findings in found.items()}
    notes = [*proof.warnings, *known_since]
    told = {"changes": [to_builtins(one) for one in changes]} if since else {}
    return {"revision": plan.revision, **told, "answers": answers, "warnings": notes}


def _uses(home: Home, sets: Mapping[str, frozenset[str]], now: datetime, days: int) -> tuple[questions.Uses, list[str]]:
    """What was allowed, and how far back that is known."""
    uses, first, found = Counter[tuple[str, frozenset[str]]](), now, Used(home, now - timedelta(days=days), sets)
    for use in found:
        uses.update((did.permission, use.facts.roles) for did in use.facts.operations)
        first = min(first, use.facts.here.at)
    known = f"what was used is known since {stamp(first)}" if uses else "nothing that was allowed is known yet"
    return uses, [known, *([] if found.whole else [PART])]


def caveats(home: Home, operation: str = "") -> list[str]:
    """Where the answers do not hold yet, for nobody is asked; and that no system knows what was asked about."""
    plan = plan_in_force(home)
    named = _operation(plan, operation).pattern if operation else None
    offer = offers(plan, home).get(named.system) if named else None
    slipped = slip(offer, named) if offer and named else ""
    return [*observed(plan.systems, datetime.now(UTC)), *filter(None, [slipped])]


def compare_document(document: Document, home: Home) -> dict[str, Any]:
    """What the document would change in what anybody may do, and what it names that no system knows."""
    policy, plan, notes = read_document(document)
    before: Plan | None = None
    holders: Mapping[str, Sequence[str]] = {}
    if revision_in_force(home):
        with opened(home) as on, on.store.read() as connection:
            before, holders = plan_in_force(home), holders_of(connection)
    changes = [to_builtins(change) for change in diff(before, plan, holders)]
    late = (f"{one.message}: {one.hint}" for one in ended(plan, SystemClock().now().date()))
    return {"changes": changes, "warnings": [*notes, *late, *slips(policy, offers(plan, home))]}


def compare(home: Home, first: str, second: str) -> list[dict[str, Any]]:
    """What the second lets people do that the first did not, and the other way round."""
    with opened(home) as on, on.store.read() as connection:
        old, new = (_plan_named(on.store, connection, which) for which in (first, second))
        return [to_builtins(change) for change in diff(old, new, holders_of(connection))]


def _plan_named(store: Store, connection: Connection, which: str) -> Plan:
    """Of a revision, by its number or itself, or of a proposal, by its id."""
    if which.isdecimal():
        return revisions.plan_kept(connection, int(which[:20]))
    if (plan := revisions.plan_of(store, which)) is not None:
        return plan
    asked = revisions.asked(store, revisions.Kind.POLICY, which)
    return read_document(convert(asked.content, Document))[1]


def who_can(
    home: Home, operation: str, *, at: datetime | None = None, source: str, outside: str
) -> list[dict[str, Any]]:
    """Every way to the operation in the policy in force, and who holds it; in an emergency, until when."""
    plan = plan_in_force(home)
    with opened(home) as on, on.store.read() as connection:
        holders, asked = holders_of(connection), _asked(on, plan, at, source, outside)
        for who, role, end in for_a_time(connection, on.clock.now()):
            holders[role].append(f"{who} until {end}")
    # No machine can by these lines.
    persons = {one.id for one in plan.grants if questions.signs_in(one.context.formula)}
    found = []
    for way in questions.who_can(plan, _operation(plan, operation), asked):
        can = [one for one in holders[way.role] if way.rule not in persons or not one.startswith(questions.MACHINE)]
        found.append({**to_builtins(way), "holders": can})
    return found


def what_can(
    home: Home, who: str, *, at: datetime | None = None, source: str, outside: str, beyond: str
) -> list[dict[str, Any]]:
    """All that a role, a user or a client may do by the policy in force; `until` when, by a role in an emergency."""
    plan = plan_in_force(home)
    with opened(home) as on, on.store.read() as connection:
        roles = dict.fromkeys(principals.one(connection, who)["roles"] if ":" in who else [_role(plan, who)], "")
        roles |= {role: end for principal, role, end in for_a_time(connection, on.clock.now()) if principal == who}
        asked = _asked(on, plan, at, source, outside)
    known = [role for role in roles if role in plan.closures]
    ways = questions.what_can(plan, known, asked, beyond and _role(plan, beyond))
    return [{**to_builtins(way), "until": roles[way.role]} for way in ways]


def _asked(on: Installation, plan: Plan, at: datetime | None, source: str, outside: str) -> Among:
    contexts = {one.name: one.formula for one in plan.contexts}
    if outside and outside not in contexts:
        raise CallerFault("no-context", f"there is no context {outside}", hint=f"one of: {', '.join(contexts)}")
    near = Situation(at or on.clock.now(), ip_address(_understood(words.address, source)) if source else SOMEWHERE)
    fixed = frozenset(fact for fact, told in (("at", at), ("source", source)) if told)
    return Among(outside=contexts.get(outside, NEVER), near=near, fixed=fixed)


def _role(plan: Plan, name: str) -> str:
    if name not in plan.closures:
        hint = f"one of: {', '.join(plan.closures)}; or user:NAME, client:NAME"
        raise CallerFault("no-role", f"the policy in force has no role {name}", hint=hint)
    return name


def _operation(plan: Plan, text: str) -> Operation:
    """`erp/sale.sale:write`, as events name it, or as the policy does; or a family, `erp/sale.*:write`."""
    systems = [system.name for system in plan.systems]
    named = operation_named(text if "/" in text or len(systems) != 1 else f"{systems[0]}/{text}")
    if named and named.system in systems and ("*" not in named.object or words.OBJECT.fullmatch(named.object)):
        return named
    return _understood(partial(words.operation, systems=systems), text)


def _understood(read: Callable[[str], T], text: str) -> T:
    try:
        return read(text)
    except words.Wrong as problem:
        raise CallerFault("question-unclear", problem.message, hint=f"write {problem.hint}") from problem


def assigned(connection: Connection) -> Mapping[str, frozenset[str]]:
    """Person -> the roles that all principals of that person hold directly."""
    held = defaultdict[str, set[str]](set)
    for _, person, role in connection.execute(select(HELD)):
        held[person].add(role)
    return {person: frozenset(roles) for person, roles in held.items()}


def holders_of(connection: Connection) -> dict[str, list[str]]:
    """Role -> the principals that hold it directly; of another role, nobody."""
    held = defaultdict[str, list[str]](list)
    chosen = select(ASSIGNMENT.c.role, ASSIGNMENT.c.principal).order_by(ASSIGNMENT.c.principal)
    for role, principal in connection.execute(chosen):
        held[role].append(principal)
    return held


def for_a_time(connection: Connection, now: datetime) -> Sequence[tuple[str, str, str]]:
    """Principal, role and end of each role that somebody holds in an emergency now."""
    begun = revisions.found(connection, revisions.Kind.BREAK_GLASS, revisions.State.BEGUN)
    lasting = (one for one in begun if one.until_s > now.timestamp())
    return [(one.content["principal"], one.content["role"], revisions.until(one)) for one in lasting]


def without_account(connection: Connection, plan: Plan, system: System) -> Sequence[str]:
    """Who holds a role that grants something there, and has no user of the ERP as whom his calls could arrive, where they need one."""
    if system.hand_over is HandOver.NONE:
        return ()
    granting = {grant.role for grant in plan.grants if grant.pattern.system == system.name}
    roles = [role.name for role in plan.roles if granting.intersection(role.closure)]
    there = select(ERP_ACCOUNT.c.principal).where(ERP_ACCOUNT.c.system == system.name)
    chosen = select(PRINCIPAL.c.id).join(ASSIGNMENT).distinct()
    chosen = chosen.where(PRINCIPAL.c.active, ASSIGNMENT.c.role.in_(roles), PRINCIPAL.c.id.not_in(there))
    return connection.scalars(chosen.order_by(PRINCIPAL.c.id)).all()


def giving_account(principal: str, system: str, login: str = "LOGIN") -> str:
    """The command that says as which ERP user the principal's calls arrive there."""
    kind, _, name = principal.partition(":")
    return f"ostiary {kind} account {name} --system {system} --login {login}"


def write(home: Home, out: Path) -> list[str]:
    """`roles`, `objects` and `principals`, each as .html and .csv, of the policy in force and those who hold it now."""
    plan = plan_in_force(home)
    with opened(home) as on, on.store.read() as connection:
        everybody, now = [*principals.users(connection), *principals.clients(connection)], on.clock.now()
        begun = for_a_time(connection, now)
    caveats = list(observed(plan.systems, now))
    facts = {"policy": plan.policy, "revision": plan.revision, "at": stamp(now), "caveats": caveats}
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, parts in _views(plan, everybody, begun).items():
        html = _page().render(view=name, parts=parts, **facts)
        for kind, text in (("html", html), ("csv", _table(parts, caveats))):
            write_atomically(out / f"{name}.{kind}", text.encode())
            written.append(str(out / f"{name}.{kind}"))
    return written


def _page() -> Any:
    from jinja2 import Environment, StrictUndefined  # it takes a while to import, and questions need none

    text = resources.files("ostiary.control").joinpath("report.html").read_text("utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(text)


def _views(plan: Plan, everybody: Iterable[dict[str, Any]], begun: Sequence[Brief]) -> dict[str, list[Part]]:
    roles = [(role.name, f"level {role.level}", list(questions.what_can(plan, [role.name]))) for role in plan.roles]
    by_role = {name: ways for name, _, ways in roles}
    objects = defaultdict[str, list[questions.Way]](list)
    for way in (way for ways in by_role.values() for way in ways):
        objects[way.permission.rpartition(":")[0]].append(way)
    return {
        "roles": roles,
        "objects": [(name, "", ways) for name, ways in sorted(objects.items())],
        "principals": [_principal(one, by_role, begun) for one in everybody],
    }


def _principal(one: Mapping[str, Any], by_role: Mapping[str, list[questions.Way]], begun: Iterable[Brief]) -> Part:
    """Whose hand it is, what he holds, for how long, and whether he is let in."""
    held = [(role, "") for role in one["roles"]]
    held += [(role, f", in an emergency until {end}") for who, role, end in begun if who == one["id"]]
    names, shut = ", ".join(map("".join, held)) or "no role", "" if one["active"] else ", disabled"
    ways = [replace(way, words=way.words + brief) for role, brief in held for way in by_role.get(role, ())]
    return one["id"], f"{one['person']}, holds {names}{shut}", ways


def _table(parts: Iterable[Part], caveats: Iterable[str] = ()) -> str:
    written = io.StringIO()
    csv.writer(written).writerows([COLUMNS, *([one, "", "", "", "", ""] for one in caveats), *_rows(parts)])
    return written.getvalue()


def _rows(parts: Iterable[Part]) -> Iterator[list[str]]:
    for name, _, ways in parts:
        for way in ways:
            cells = (name, way.role, way.permission, way.words, way.rule, str(way.where))
            yield [f"'{cell}" if cell.startswith(FORMULA) else cell for cell in cells]
