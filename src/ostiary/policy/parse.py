"""From text to a typed policy, or to every problem of the text at once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from msgspec import Struct

from ostiary.policy import duties, keys, words
from ostiary.policy.contexts import read_contexts
from ostiary.policy.include import among, gathered, merged
from ostiary.policy.model import Always, Approvals, Limit, Limits, Never, Policy, Response, WhenSilent
from ostiary.policy.node import Node, Scalar, names_in, says_nothing
from ostiary.policy.packs import with_packs
from ostiary.policy.problem import Problem
from ostiary.policy.reader import Reader
from ostiary.policy.roles import Known, read_departments, read_roles
from ostiary.policy.systems import read_systems

ANONYMOUS: Final = Limit(name="anonymous", requests=60, seconds=60)
DEFAULT: Final = Limit(name="default", requests=1000, seconds=3600)
BODY_BYTES: Final = 10 * 1024 * 1024  # standard E4
VALUES_MAX: Final = 5_000_000  # about 100 MB of plan


class Parsed(Struct, frozen=True, kw_only=True):
    """`policy` is None where a problem keeps it from meaning anything for certain."""

    policy: Policy | None
    problems: tuple[Problem, ...]


def parse(text: str, file: str, files: Mapping[str, str] = {}) -> Parsed:
    """The policy in `text`; `file` is how problems and lines name it, `files` are the texts that it may include."""
    told = gathered(file, text, among(files))
    if told.problems:
        return Parsed(policy=None, problems=tuple(told.problems))
    root = with_packs(merged(told), told)
    reader = Reader(file, told.texts)
    policy = _policy(reader, root)
    order = list(told.texts)
    found = dict.fromkeys([*told.problems, *reader.problems])
    problems = tuple(sorted(found, key=lambda one: (order.index(one.file), one.line, one.column)))
    return Parsed(policy=None if problems else policy, problems=problems)


def _policy(reader: Reader, root: Node) -> Policy:
    part = reader.mapping(root, keys.PARTS["policy"], what="the policy")
    reader.named(part.get("variables"), reader.define, what="variables")
    departments = read_departments(reader, part.get("departments"))
    systems = read_systems(reader, part.get("systems"))
    known = Known(
        systems=names_in(part.get("systems")),
        kinds={system.name: system.kind for system in systems},
        departments=departments,
        contexts=names_in(part.get("contexts")),
        roles=names_in(part.get("roles")),
    )
    policy = Policy(
        file=reader.file,
        name=reader.text(part.get("policy"), what="policy"),
        systems=systems,
        departments=departments,
        contexts=read_contexts(reader, part.get("contexts")),
        roles=read_roles(reader, part.get("roles"), known),
        apart=duties.read_apart(reader, known, part.get("apart"), part.get("controls")),
        never=reader.each(
            part.get("never"), partial(duties.read_statement, reader, known, Never, keys.PARTS["never"]), what="never"
        ),
        always=reader.each(
            part.get("always"),
            partial(duties.read_statement, reader, known, Always, keys.PARTS["always"]),
            what="always",
        ),
        limits=_limits(reader, known.roles, part.get("limits")),
        when_silent=reader.word(part.get("when-silent"), WhenSilent, what="when-silent") or WhenSilent.CLOSE,
        approvals=_approvals(reader, part.get("approvals")),
        response=_response(reader, part.get("response")),
        tests=reader.each(part.get("tests"), partial(duties.read_test, reader, known), what="tests"),
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
            at, hint = role.source, "larger networks, or fewer lines of `may` in that context"
            told = f"with role {role.name} the grants hold more than {VALUES_MAX} values of their contexts"
            reader.problems.append(Problem(file=at.file, line=at.line, column=at.column, message=told, hint=hint))
            return


def _approvals(reader: Reader, node: Node | None) -> Approvals:
    part = reader.optional(node, keys.PARTS["approvals"], "policy: 1")
    names = ("policy", "break-glass", "roles")
    policy, glass, roles = (reader.understood(part.get(name), words.others, what=name) or 0 for name in names)
    return Approvals(policy=policy, break_glass=glass, roles=roles)


def _response(reader: Reader, node: Node | None) -> Response:
    part = reader.optional(node, keys.PARTS["response"], "block: 10 minutes")
    return Response(
        guesses=reader.understood(part.get("guesses"), words.guesses, what="guesses") or Response().guesses,
        block_s=reader.understood(part.get("block"), words.block, what="block") or Response().block_s,
        spared=reader.each_of(part, "spare", words.network, "203.0.113.0/24"),
    )


def _limits(reader: Reader, roles: Sequence[str], node: Node | None) -> Limits:
    told = {
        name: (limit, body) for name, limit, body in reader.named(node, partial(_limit, reader, roles), what="limits")
    }
    named = {name: limit for name, (limit, _) in told.items() if limit}
    _, body = told.get("default", (None, None))
    return Limits(
        anonymous=named.pop("anonymous", ANONYMOUS),
        default=named.pop("default", DEFAULT),
        roles=tuple(named[name] for name in sorted(named)),
        body_bytes=body or BODY_BYTES,
    )


def _limit(
    reader: Reader, roles: Sequence[str], name: str, key: Scalar, node: Node
) -> tuple[str, Limit | None, int | None]:
    """Requests and body, where they are told."""
    reader.known([(name, key)], [*roles, *keys.RESERVED_LIMITS], what="role")
    part = reader.mapping(
        node, keys.PARTS["default-limit"] if name == "default" else keys.PARTS["limit"], what=f"limit {name}"
    )
    if says_nothing(node):
        reader.report(key, f"limit {name} says nothing", "requests: 1000/hour")
    rate = reader.understood(part.get("requests"), words.rate, what="requests")
    body = reader.understood(part.get("body"), words.size, what="body")
    return name, Limit(name=name, requests=rate[0], seconds=rate[1]) if rate else None, body
