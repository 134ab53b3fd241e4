"""A policy that a source proposes: text to review, which changes nothing."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

from ostiary.control.documents import described, prove_document, read_document, read_policy, text_below
from ostiary.control.installation import refuse_empty
from ostiary.control.recorded import Tick, recorded, turned_away
from ostiary.erp import odata, openapi, tryton
from ostiary.erp.offer import Role
from ostiary.erp.operation import Verb, covering_scopes, operation_named
from ostiary.event.record import stamp
from ostiary.foundation.errors import CallerFault, OperatorFault
from ostiary.foundation.home import Home
from ostiary.foundation.settings import load_settings
from ostiary.plan.decide import Facts, closure
from ostiary.plan.model import Grant, Kind, Plan
from ostiary.plan.reason import Reason
from ostiary.policy.document import Document
from ostiary.policy.draft import draft as written
from ostiary.policy.fmt import one_line
from ostiary.policy.parse import among, gathered, merged
from ostiary.policy.words import NAME, WEEK, Wrong
from ostiary.prove.decisions import Recorded

EVENTS: Final = "events"
NETWORKS_MAX: Final = 5
BITS: Final = {4: 24, 6: 48}  # of an address: the network it is in
HEAD: Final = ("policy", "systems", "departments")  # of the policy that there is
NOTES: Final = (
    "A proposal, and in force nowhere: look at each line, and take over into the policy what you keep.",
    "A role of level partner is of the narrowest level; `level: user, of: DEPARTMENT` may be what it is.",
)
LATER: Final = (
    "NOT ENFORCEABLE YET: this release guards no system that speaks OData. Its kind stands as openapi here, and its",
    "`spec` names no document, so that `ostiary policy apply` refuses it.",
)


def draft(home: Home, source: str, since: datetime, tick: Tick) -> dict[str, Any]:
    """`source`: the events since then, a system of the policy, or the file of an OpenAPI or $metadata document."""
    if source != EVENTS and (file := Path(source).resolve()).is_file():
        return _of_file(home, file)
    refuse_empty(home)
    document = read_policy(home.policy)
    _, plan, _ = read_document(document)
    system = next((one for one in plan.systems if one.name == source), None)
    if source == EVENTS:
        found = list(recorded(home, since, tick))
        refused = turned_away(home, since)  # read later: what is found is in it, if it was refused
        roles: Iterable[Role] = observed(plan, (one for one in found if one.decision not in refused))
    elif system is None:
        hint = f"{EVENTS}, a file, or a system of the policy: {', '.join(one.name for one in plan.systems)}"
        raise CallerFault("no-source", f"there is no file and no system {source!r}", hint=hint)
    elif system.kind is Kind.TRYTON:
        roles = _of_tryton(home, source)
    else:
        routes = [route for route in plan.routes if route.system == source]
        roles = openapi.drafted(document.files[system.spec].encode(), routes)
    entries = merged(gathered(document.name, document.text, among(document.files))).entries
    head = [f"{key}: {one_line(entries[key][1])}" for key in HEAD if key in entries]
    return _proved(head, roles, document.files, home, {one.name: one.kind for one in plan.systems})


def _of_tryton(home: Home, system: str) -> tuple[Role, ...]:
    catalogue = tryton.learned(home.catalogue(system))
    if catalogue is None or not catalogue.groups:
        reader = f"let the user of `ostiary system account {system} --login LOGIN` read {', '.join(tryton.OBJECTS)}"
        hint = f"{reader}; then `ostiary system learn {system}`"
        raise OperatorFault("rights-unknown", f"what the groups of {system} may do is not known", hint=hint)
    return catalogue.groups


def _of_file(home: Home, file: Path) -> dict[str, Any]:
    try:
        text = text_below(file.parent, file.name, openapi.DOCUMENT_MAX_BYTES)
    except Wrong as problem:
        raise OperatorFault("file-unreadable", problem.message, hint=problem.hint) from problem
    stem, data = file.name.partition(".")[0].lower(), text.encode()
    name = stem if NAME.fullmatch(stem) else "api"
    xml = data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
    loaded = openapi.Loaded() if xml else described(data, file.name, name)
    place = f'at: {name}.example.com{loaded.base}, upstream: "https://{name}.example.com{loaded.base}"'
    spec = json.dumps(f"{name}.openapi.yaml" if xml else file.name)
    head = [f"policy: {name}", f"systems: {{{name}: {{kind: openapi, {place}, spec: {spec}}}}}"]
    if not xml:
        return _proved(head, openapi.drafted(data, loaded.routes), {file.name: text}, home)
    try:
        return {"text": written(head, odata.drafted(data, name), [*LATER, *NOTES]), "warnings": []}
    except odata.Unfit as problem:
        hint = "give its $metadata as it came"
        raise OperatorFault("metadata-invalid", f"{file.name}: {problem}", hint=hint) from problem


def _proved(
    head: list[str], roles: Iterable[Role], files: Mapping[str, str], home: Home, kinds: Mapping[str, Kind] = {}
) -> dict[str, Any]:
    text = written(head, roles, NOTES, kinds)
    _, proof = prove_document(Document(text=text, file="draft.yaml", files=files), home, load_settings(home.settings))
    return {"text": text, "warnings": list(proof.warnings)}


class _Use:
    """What one principal was seen to do: permission -> how often and when last; when in a week, from where, in what role."""

    def __init__(self) -> None:
        self.may: dict[str, tuple[int, datetime]] = {}
        self.days, self.hours, self.networks, self.roles = set[int](), set[int](), set[str](), set[str]()

    def add(self, facts: Facts) -> None:
        self.days.add(facts.here.at.weekday())
        self.hours.add(facts.here.at.hour)
        self.roles |= facts.roles or frozenset()
        if len(self.networks) <= NETWORKS_MAX:
            self.networks.add(str(ip_network((facts.here.source, BITS[facts.here.source.version]), strict=False)))
        for did in facts.operations:
            one = f"{did.system}/{did.object}:read" if did.verb is Verb.READ else did.permission
            times, last = self.may.get(one, (0, facts.here.at))
            self.may[one] = times + 1, max(last, facts.here.at)


def observed(plan: Plan, found: Iterable[Recorded]) -> Iterator[Role]:
    """The least that what was allowed needs. Who did the same shares a role; what was refused, for whatever reason, is in none."""
    uses: dict[str, _Use] = defaultdict(_Use)
    systems = {system.name for system in plan.systems}
    for one in found:
        if one.reason == Reason.ALLOWED and one.facts.operations and one.facts.system in systems:
            uses[one.principal].add(one.facts)
    alike: dict[frozenset[str], list[str]] = defaultdict(list)
    for name in sorted(uses):
        alike[frozenset(uses[name].may)].append(name)
    for number, names in enumerate(alike.values(), 1):
        own = names[0].partition(":")[2] if len(names) == 1 else ""  # an ERP's own key names nobody
        name = own or f"observed {number}"
        yield _role(plan, name, names, [uses[one] for one in names])


def _granting(plan: Plan, held: frozenset[str], permission: str) -> list[Grant]:
    did = operation_named(permission)
    return plan.granting(covering_scopes(did), held) if did else []


def _role(plan: Plan, name: str, names: list[str], uses: list[_Use]) -> Role:
    held = closure(plan, {role for use in uses for role in use.roles})
    departments = {role.department for role in plan.roles if role.name in held}
    times = {one: [use.may[one] for use in uses] for one in uses[0].may}
    hours = sorted({hour for use in uses for hour in use.hours})
    days = sorted({day for use in uses for day in use.days})
    networks = sorted({network for use in uses for network in use.networks})
    where = f"networks: [{', '.join(networks)}]" if len(networks) <= NETWORKS_MAX else "from many networks"
    week = f'days: "{", ".join(WEEK[day] for day in days)}", hours: "{hours[0]:02}:00-{hours[-1] + 1:02}:00", zone: UTC'
    why = {
        one: f"{sum(n for n, _ in told)} times, last {stamp(max(at for _, at in told))}" for one, told in times.items()
    }
    terms = {one: {grant.terms for grant in _granting(plan, held, one)} for one in why}
    limited = {one: " or ".join(sorted(found)) for one, found in terms.items() if found and "" not in found}
    notes = [f"seen: {', '.join(names)}", f"a context to think about: {{{week}}}, {where}"]
    notes += [f"not proposed: {one}, which is granted of {terms} alone" for one, terms in limited.items()]
    may = {one: why[one] for one in why if one not in limited}
    return Role(name=name, may=may, notes=tuple(notes), department=departments.pop() if len(departments) == 1 else "")
