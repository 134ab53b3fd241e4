"""A shop of any size: its OpenAPI document, a policy over it, callers with tokens, and requests that pass.

Objects belong to families (`f3.o17`), a role may do all of some families' operations, and every role holds only in
office hours, of a zone in which it is about noon: the hours are judged, and never end during a run.
"""

import json
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from msgspec import Struct

from bench.load import Line
from ostiary.compile.plan import compile_policy
from ostiary.erp.openapi import load
from ostiary.foundation.ids import role_set_id
from ostiary.foundation.jose import Claims, SigningKey, sign_access_token
from ostiary.plan.decide import RoleSets
from ostiary.plan.model import Plan
from ostiary.policy.parse import parse

HOST: Final = "shop.test"
ISSUER: Final = "https://gate.test/identity"
SHAPES: Final = (("GET", ""), ("GET", "/{id}"), ("POST", ""), ("DELETE", "/{id}"))  # of one object
VERBS: Final = ("read", "write", "delete")
ADDRESSES: Final = 4_000  # the gate limits each address to a thousand a second
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
NOON: Final = 12
TOKEN_LIFE_S: Final = 3_600
SEED: Final = 7


class Size(Struct, frozen=True, kw_only=True):
    """`share`: the part of all roles that may do one operation. `roles_each`: how many roles one caller holds."""

    operations: int = 10
    families: int = 10
    roles: int = 10
    share: float = 0.1
    roles_each: int = 2
    callers: int = 64
    requests: int = 4_000


class Caller(Struct, frozen=True, kw_only=True):
    name: str
    roles: tuple[str, ...]
    family: int  # what he asks for, and all that his token's scopes cover: tokens are of one length at any size
    token: str


class Shop(Struct, frozen=True, kw_only=True):
    """A compiled shop and the requests that its callers may make."""

    plan: Plan
    role_sets: RoleSets
    jwks: dict[str, Any]
    callers: tuple[Caller, ...]
    lines: tuple[Line, ...]


def build(size: Size, upstream: str) -> Shop:
    """Through the product's own way from text to plan."""
    operations = described(size)
    plan = compiled(policy(size, upstream), document(operations))
    key, chance = SigningKey.generate(), random.Random(SEED)
    callers = tuple(_caller(number, size, key, chance) for number in range(size.callers))
    sets = {role_set_id(one.roles): frozenset(one.roles) for one in callers}
    return Shop(
        plan=plan,
        role_sets=sets,
        jwks={"keys": [key.public()]},
        callers=callers,
        lines=tuple(_lines(size, operations, callers, chance)),
    )


def compiled(text: str, spec: str) -> Plan:
    parsed, loaded = parse(text, "policy.yaml"), load(spec.encode(), "shop")
    assert parsed.policy is not None, parsed.problems[:3]
    assert not loaded.problems, loaded.problems[:3]
    return compile_policy(parsed.policy, {"shop": loaded.routes})


def described(size: Size) -> list[tuple[str, str, int]]:
    """Every operation as method, template and family."""
    every = [
        (method, f"/f{number % size.families}/o{number}{tail}", number % size.families)
        for number in range(objects_of(size))
        for method, tail in SHAPES
    ]
    return every[: size.operations]


def objects_of(size: Size) -> int:
    return -(-size.operations // len(SHAPES))


def document(operations: Sequence[tuple[str, str, int]]) -> str:
    paths: dict[str, Any] = {}
    for method, template, family in operations:
        name = f"f{family}.{template.split('/')[2]}"
        paths.setdefault(template, {})[method.lower()] = {"tags": [name], "responses": {"200": {"description": "ok"}}}
    return json.dumps({"openapi": "3.1.0", "info": {"title": "shop", "version": "1"}, "paths": paths})


def policy(size: Size, upstream: str, *, spec: str = "specs/shop.json", extra: str = "") -> str:
    """The policy's text. `extra` is one more pattern for the first role."""
    days, zone = office()
    more = f', "{extra}"' if extra else ""
    roles = "".join(
        f"  r{number}: {{level: user, of: staff, when: office, may: [{', '.join(_may(number, size))}{more if number == 0 else ''}]}}\n"
        for number in range(size.roles)
    )
    return f"""policy: bench
systems:
  shop: {{kind: openapi, at: {HOST}, upstream: "{upstream}", spec: "{spec}"}}
departments:
  staff: {{}}
contexts:
  office: {{days: "{days}", hours: "08:00-18:00", zone: {zone}}}
roles:
{roles}limits:
  anonymous: {{requests: 1000000/second}}
  default: {{requests: 10000000/second}}
"""


def office() -> tuple[str, str]:
    """All days but the one three days off, in a zone where it is noon now."""
    now = datetime.now(UTC)
    ahead = NOON - now.hour
    zone = "Etc/GMT" if not ahead else f"Etc/GMT{'-' if ahead > 0 else '+'}{abs(ahead)}"  # their signs are reversed
    off = (now + timedelta(hours=ahead, days=3)).weekday()
    return ", ".join(day for number, day in enumerate(DAYS) if number != off), zone


def families_of(role: int, size: Size) -> list[int]:
    """Each family is held by `share` of all roles, and each role holds about as many families as the next."""
    return [family for family in range(size.families) if (role - family * _holders(size)) % size.roles < _holders(size)]


def _holders(size: Size) -> int:
    return max(1, round(size.share * size.roles))


def _may(role: int, size: Size) -> list[str]:
    return [f'"f{family}.*: {", ".join(VERBS)}"' for family in families_of(role, size)]


def _caller(number: int, size: Size, key: SigningKey, chance: random.Random) -> Caller:
    """Asks for one family, by any of the roles that may; holds other roles by chance."""
    used = min(size.families, objects_of(size))
    own = (number % used * _holders(size) + chance.randrange(_holders(size))) % size.roles
    held = {own, *chance.sample(range(size.roles), min(size.roles, size.roles_each - 1))}
    scopes = {f"shop/f{number % used}.*:{verb}" for verb in VERBS}
    name = f"client:c{number}"
    roles = tuple(sorted(f"r{role}" for role in held))
    now = int(datetime.now(UTC).timestamp())
    claims = Claims(
        issuer=ISSUER,
        audience=f"https://{HOST}",
        subject=name,
        client=name,
        jti=f"at-{number:032x}",
        grant=f"gr-{number:032x}",
        generation=f"{name}#1",
        role_set=role_set_id(roles),
        scopes=frozenset(scopes),
        issued_at=now,
        expires_at=now + TOKEN_LIFE_S,
    )
    return Caller(name=f"c{number}", roles=roles, family=number % used, token=sign_access_token(key, claims))


def _lines(
    size: Size, operations: Sequence[tuple[str, str, int]], callers: Sequence[Caller], chance: random.Random
) -> Iterator[Line]:
    """Requests that are allowed, over all operations that anybody may do, in no order."""
    by_family: dict[int, list[tuple[str, str, int]]] = {}
    for one in operations:
        by_family.setdefault(one[2], []).append(one)
    for number in range(size.requests):
        caller = callers[number % len(callers)]
        method, template, _ = chance.choice(by_family[caller.family])
        path = template.replace("{id}", str(chance.randrange(1, 100_000)))
        address = f"10.7.{number % ADDRESSES >> 8}.{number & 255}"
        yield Line(method=method, path=path, token=caller.token, address=address)
