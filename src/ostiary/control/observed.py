"""The least privilege that recorded use needed, as roles."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from ipaddress import ip_network
from typing import Final

from ostiary.erp.draft import Role
from ostiary.erp.operation import Verb, covering_scopes, operation_named
from ostiary.event.record import stamp
from ostiary.plan.decide import Facts, closure
from ostiary.plan.model import Grant, Plan
from ostiary.plan.reason import Reason
from ostiary.policy.words import WEEK
from ostiary.prove.replay import Recorded

NETWORKS_MAX: Final = 5
BITS: Final = {4: 24, 6: 48}  # of an address: the network it is in


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
        name = names[0].partition(":")[2] if len(names) == 1 else f"observed {number}"
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
