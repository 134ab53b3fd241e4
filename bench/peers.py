"""Two other engines on our own data, in the same run: pycasbin and Cedar. What they can't say is named in their rows."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import casbin
import cedarpy

from ostiary.plan.decide import Facts
from ostiary.plan.model import Hours, Plan, atoms

CASBIN: Final = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.sub == p.sub && keyMatch(r.obj, p.obj) && r.act == p.act
"""
KEYED_BY: Final = (0, 2)
HOURS: Final = "[{days}].contains(context.day) && context.minute >= {start} && context.minute < {end}"
Asked = tuple[str, str, str]  # role, object, verb


def asked(facts: Sequence[Facts]) -> list[Asked]:
    """The same questions in their words; each is of one role and one operation."""
    return [(next(iter(one.roles or ())), one.operations[0].object, str(one.operations[0].verb)) for one in facts]


def pycasbin(plan: Plan) -> Any:
    """Keyed by role and verb, which is its fast form; the hours are left out, which it has no words for."""
    model = casbin.FastModel(KEYED_BY)
    model.load_model_from_text(CASBIN)
    made = casbin.FastEnforcer(model, cache_key_order=KEYED_BY)
    made.add_policies([[one.role, one.pattern.object, str(one.pattern.verb)] for one in plan.grants])
    return made


def casbin_who_can(enforcer: Any, object_: str, verb: str) -> set[str]:
    """It asks itself about every role, one by one."""
    return set(enforcer.get_implicit_users_for_permission(object_, verb))


def cedar(plan: Plan) -> Callable[[Asked], bool]:
    """Policies and entities parsed beforehand; families are parents of objects, and the caller tells the zone's clock."""
    (hours,) = {atom for grant in plan.grants for atom in atoms(grant.context.formula) if isinstance(atom, Hours)}
    when = HOURS.format(days=", ".join(map(str, hours.days)), start=hours.start, end=hours.end)
    policies = cedarpy.PolicySet.from_str(
        "\n".join(
            f'permit(principal == Role::"{one.role}", action == Action::"{one.pattern.verb}", '
            f'resource in Family::"{one.pattern.object}") when {{ {when} }};'
            for one in plan.grants
        )
    )
    objects = [
        {"uid": {"type": "Object", "id": name}, "attrs": {}, "parents": [{"type": "Family", "id": f"{name.partition('.')[0]}.*"}]}
        for name in sorted({route.object for route in plan.routes})
    ]  # fmt: skip
    entities = cedarpy.Entities.from_json_str(json.dumps(objects))

    def decide(one: Asked) -> bool:
        role, object_, verb = one
        at = datetime.now(UTC).astimezone(ZoneInfo(hours.zone))
        request = {
            "principal": f'Role::"{role}"', "action": f'Action::"{verb}"', "resource": f'Object::"{object_}"',
            "context": {"day": at.weekday(), "minute": at.hour * 60 + at.minute},
        }  # fmt: skip
        return bool(cedarpy.is_authorized(request, policies, entities).allowed)

    return decide
