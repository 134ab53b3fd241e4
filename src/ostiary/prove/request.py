"""One concrete request: what an answer of the prover rests on, and how it is asked again."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from ipaddress import ip_address

from msgspec import Struct
from msgspec.structs import replace

from ostiary.erp.operation import Operation, Pattern, covering_scopes, operation_named
from ostiary.plan.decide import Decision, Facts, decide
from ostiary.plan.formula import UNKNOWN
from ostiary.plan.model import Plan
from ostiary.plan.reason import Reason
from ostiary.prove.situation import Situation


class Request(Struct, frozen=True, kw_only=True):
    """A caller with just these roles, and a token that covers what is asked, is answered with `reason`."""

    roles: tuple[str, ...]
    operation: str
    at: datetime
    source: str
    country: str = UNKNOWN
    device: bool = False
    acr: str = ""
    age_s: int | None = None
    when: str  # time and address in words, as far as they matter
    reason: Reason = Reason.UNKNOWN_OPERATION

    def __str__(self) -> str:
        return f"{self.when}, {', '.join(self.roles)} doing {self.operation} is answered: {self.reason}"


def request(
    plan: Plan, roles: Iterable[str], pattern: Pattern, there: Situation, *, unlike: Plan | None = None
) -> Request | None:
    """One of the pattern that is allowed, and not so by the plan `unlike`; None where none is known."""
    for asked in requests(plan, tuple(sorted(roles)), pattern, there):
        if asked.reason is Reason.ALLOWED and not (unlike and replay(unlike, asked).allowed):
            return asked
    return None


def known(*found: Request | None) -> tuple[Request, ...]:
    return tuple(one for one in found if one)


def requests(plan: Plan, roles: tuple[str, ...], pattern: Pattern, there: Situation) -> Iterator[Request]:
    """Those of the pattern, as the evaluator answers them; of what needs not be known beforehand, one more."""
    for operation in (*plan.known.get(str(pattern), ()), pattern.operation):
        asked = Request(
            roles=roles, operation=operation.permission, at=there.at, source=str(there.source), country=there.country,
            device=there.device, acr=there.acr, age_s=there.age_s, when=str(there),
        )  # fmt: skip
        yield replace(asked, reason=replay(plan, asked).reason)


def replay(plan: Plan, asked: Request) -> Decision:
    """What the evaluator says to it; what no URL of a described system is, is no operation there."""
    named = operation_named(asked.operation)
    described = {system.name for system in plan.systems if not system.guarded}
    does = () if named is None or (named.system in described and named not in plan.known[asked.operation]) else (named,)
    there = Situation(asked.at, ip_address(asked.source), asked.country, asked.device, asked.acr, asked.age_s)
    return decide(plan, asking(asked.operation.partition("/")[0], asked.roles, there, does))


def asking(system: str, roles: Iterable[str], there: Situation, does: tuple[Operation, ...]) -> Facts:
    """A caller with just these roles, and a token that covers all that he does."""
    scopes = frozenset(scope for one in does for scope in covering_scopes(one))
    return Facts(system=system, here=there.here, roles=frozenset(roles), scopes=scopes, operations=does)
