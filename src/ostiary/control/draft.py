"""A policy that a source proposes: text to review, which changes nothing."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

from ostiary.control.documents import described, prove_document, read_document, read_policy, text_below
from ostiary.control.evidence import Tick, recorded, turned_away
from ostiary.control.installation import refuse_empty
from ostiary.erp import odata, openapi, tryton
from ostiary.erp.catalogue import Role, learned
from ostiary.erp.operation import Verb, covering_scopes, operation_named
from ostiary.foundation.clock import stamp
from ostiary.foundation.errors import CallerFault, OperatorFault
from ostiary.foundation.home import Home, load_settings
from ostiary.foundation.origin import Address
from ostiary.plan.decide import Facts, Reason, Recorded, closure
from ostiary.plan.model import Kind, Plan, System
from ostiary.policy.document import Document
from ostiary.policy.draft import draft as written
from ostiary.policy.fmt import one_line
from ostiary.policy.parse import among, gathered, merged
from ostiary.policy.words import NAME, WEEK, Wrong

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
    elif system.guarded:
        roles = _of_groups(home, system)
    else:
        routes = [route for route in plan.routes if route.system == source]
        roles = openapi.drafted(document.files[system.spec].encode(), routes)
    entries = merged(gathered(document.name, document.text, among(document.files))).entries
    head = [f"{key}: {one_line(entries[key][1])}" for key in HEAD if key in entries]
    return _proved(head, roles, document.files, home, {one.name: one.kind for one in plan.systems})


def _of_groups(home: Home, system: System) -> tuple[Role, ...]:
    catalogue, name = learned(home.catalogue(system.name)), system.name
    if catalogue is None or not catalogue.groups:
        reader = f"let the user of `ostiary system account {name} --login LOGIN` read {', '.join(tryton.OBJECTS)}"
        hint = f"{reader}; then `ostiary system learn {name}`"
        if system.kind is not Kind.TRYTON:
            hint = f"of a system of kind {system.kind} no groups are read: --from {EVENTS}"
        raise OperatorFault("rights-unknown", f"what the groups of {name} may do is not known", hint=hint)
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


def observed(plan: Plan, found: Iterable[Recorded]) -> Iterator[Role]:
    """The least that what was allowed needs. Who did the same shares a role; what was refused, for whatever reason, is in none."""
    systems = {system.name for system in plan.systems}
    did: dict[str, list[Facts]] = defaultdict(list)
    for one in found:
        if one.reason == Reason.ALLOWED and one.facts.operations and one.facts.system in systems:
            did[one.principal].append(one.facts)
    alike: dict[frozenset[str], list[str]] = defaultdict(list)
    for name in sorted(did):
        alike[frozenset(permission for facts in did[name] for permission in _permissions(facts))].append(name)
    for number, names in enumerate(alike.values(), 1):
        own = names[0].partition(":")[2] if len(names) == 1 else ""  # an ERP's own key names nobody
        yield _role(plan, own or f"observed {number}", names, [facts for one in names for facts in did[one]])


def _permissions(facts: Facts) -> Iterator[str]:
    """Of a read the whole object's, whatever its fields."""
    for did in facts.operations:
        yield f"{did.system}/{did.object}:read" if did.verb is Verb.READ else did.permission


def _role(plan: Plan, name: str, names: list[str], did: list[Facts]) -> Role:
    held = closure(plan, {role for facts in did for role in facts.roles})
    departments = {role.department for role in plan.roles if role.name in held}
    times: dict[str, list[datetime]] = defaultdict(list)
    for facts in did:
        for permission in _permissions(facts):
            times[permission].append(facts.here.at)
    hours = sorted({facts.here.at.hour for facts in did})
    days = sorted({facts.here.at.weekday() for facts in did})
    networks = sorted({_network(facts.here.source) for facts in did})
    where = f"networks: [{', '.join(networks)}]" if len(networks) <= NETWORKS_MAX else "from many networks"
    week = f'days: "{", ".join(WEEK[day] for day in days)}", hours: "{hours[0]:02}:00-{hours[-1] + 1:02}:00", zone: UTC'
    why = {one: f"{len(at)} times, last {stamp(max(at))}" for one, at in times.items()}
    named = {one: covering_scopes(operation) for one in why if (operation := operation_named(one))}
    terms = {one: {grant.terms for grant in plan.granting(scopes, held)} for one, scopes in named.items()}
    limited = {one: " or ".join(sorted(found)) for one, found in terms.items() if found and "" not in found}
    notes = [f"seen: {', '.join(names)}", f"a context to think about: {{{week}}}, {where}"]
    notes += [f"not proposed: {one}, which is granted of {terms} alone" for one, terms in limited.items()]
    may = {one: why[one] for one in why if one not in limited}
    return Role(name=name, may=may, notes=tuple(notes), department=departments.pop() if len(departments) == 1 else "")


def _network(source: Address) -> str:
    return str(ip_network((source, BITS[source.version]), strict=False))
