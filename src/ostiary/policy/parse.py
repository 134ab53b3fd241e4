"""From text to a typed policy, or to every problem of the text at once."""

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from msgspec import Struct

from ostiary.policy import duties
from ostiary.policy.contexts import read_contexts
from ostiary.policy.include import among, gathered, merged
from ostiary.policy.keys import RESERVED_LIMITS
from ostiary.policy.model import Always, Approvals, Limit, Limits, Never, Policy, Response
from ostiary.policy.node import Node, Scalar, names_in
from ostiary.policy.packs import with_packs
from ostiary.policy.problem import Problem
from ostiary.policy.reader import Reader
from ostiary.policy.roles import read_departments, read_roles
from ostiary.policy.systems import read_systems

VALUES_MAX: Final = 5_000_000  # about 100 MB of plan


class Parsed(Struct, frozen=True, kw_only=True):
    """`policy` is None where a problem keeps it from meaning anything for certain; `files` are those that it includes."""

    policy: Policy | None
    problems: tuple[Problem, ...]
    files: frozenset[str] = frozenset()


def parse(text: str, file: str, files: Mapping[str, str] = {}) -> Parsed:
    """The policy in `text`; `file` is how problems and lines name it, `files` are the texts that it may include."""
    told = gathered(file, text, among(files))
    if told.problems:
        return Parsed(policy=None, problems=tuple(told.problems))
    included = frozenset(told.texts)
    root = with_packs(merged(told), told)
    reader = Reader(file, told.texts)
    policy = _policy(reader, root)
    order = list(told.texts)
    found = dict.fromkeys([*told.problems, *reader.problems])
    problems = tuple(sorted(found, key=lambda one: (order.index(one.file), one.line, one.column)))
    return Parsed(policy=None if problems else policy, problems=problems, files=included)


def _policy(reader: Reader, root: Node) -> Policy:
    part, told = reader.read(root, "policy", what="the policy")
    reader.named(part.get("variables"), reader.define, what="variables")
    reader.names |= {name: names_in(part.get(f"{name}s")) for name in ("system", "department", "context", "role")}
    departments = read_departments(reader, part.get("departments"))
    systems = read_systems(reader, part.get("systems"))
    reader.kinds = {system.name: system.kind for system in systems}
    policy = Policy(
        **{"name": "", **told},
        file=reader.file,
        systems=systems,
        departments=departments,
        contexts=read_contexts(reader, part.get("contexts")),
        roles=read_roles(reader, part.get("roles"), departments),
        apart=duties.read_apart(reader, part.get("apart"), part.get("controls")),
        never=reader.each(part.get("never"), partial(duties.read_statement, reader, Never), what="never"),
        always=reader.each(part.get("always"), partial(duties.read_statement, reader, Always), what="always"),
        limits=_limits(reader, part.get("limits")),
        approvals=Approvals(**_values(reader, part, "approvals")),
        response=Response(**_values(reader, part, "response")),
        tests=reader.each(part.get("tests"), partial(duties.read_test, reader), what="tests"),
    )
    reader.unused()
    _refuse_too_much(reader, policy)
    return policy


def _refuse_too_much(reader: Reader, policy: Policy) -> None:
    """Of each grant the plan holds all values again, those of its context too."""
    own = Counter({one.name: len(one.networks + one.holidays + one.countries) for one in policy.contexts})
    parts = {one.name: (one.name, *one.every, *one.some, *one.none) for one in policy.contexts}
    left = VALUES_MAX
    for role in policy.roles:
        context = sum(own[part] for name in role.when for part in parts.get(name, ()))
        left -= sum(len(may.patterns) * (context + len(may.fields) + len(may.where)) for may in role.may)
        if left < 0:
            told = f"with role {role.name} the grants hold more than {VALUES_MAX} values of their contexts"
            reader.report(role.source, told, "larger networks, or fewer lines of `may` in that context")
            return


def _values(reader: Reader, policy: dict[str, Node], name: str) -> dict[str, Any]:
    return reader.read(policy[name], name)[1] if name in policy else {}


def _limits(reader: Reader, node: Node | None) -> Limits:
    told = dict(reader.named(node, partial(_limit, reader), what="limits"))
    named = {
        name: Limit(name=name, requests=one["requests"][0], seconds=one["requests"][1], source=one["lines"]["requests"])
        for name, one in sorted(told.items())
        if "requests" in one
    }
    own = {name: named.pop(name) for name in RESERVED_LIMITS if name in named}
    default = told.get("default", {"lines": {}})
    body, line = default.get("body_bytes", Limits().body_bytes), default["lines"].get("body")
    return Limits(**own, roles=tuple(named.values()), body_bytes=body, source=line)


def _limit(reader: Reader, name: str, key: Scalar, node: Node) -> tuple[str, dict[str, Any]]:
    """What the limit says, and the line of each."""
    reader.known([(name, key)], "role", RESERVED_LIMITS)
    nodes, values = reader.read(node, "default-limit" if name == "default" else "limit", what=f"limit {name}")
    return name, {**values, "lines": {said: reader.source(at) for said, at in nodes.items()}}
