"""What has become known so far of what is asked of the guard, and so what is answered."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from ostiary.erp.operation import Operation
from ostiary.foundation.jose import Claims
from ostiary.plan.decide import Reason
from ostiary.plan.model import Circumstances

Gone = Callable[[], Awaitable[object]]  # returns when the gate no longer waits


@dataclass(eq=False)
class Refused(Exception):
    """A signal inside the guard; `Trace.refuse` makes it the answer."""

    reason: Reason
    detail: str
    pointer: str = ""
    rule: str = ""
    challenge: str = ""
    operation: str = ""


@dataclass(slots=True, kw_only=True)
class Trace:
    """What has become known of one request so far, and so its answer, however early it is refused.

    `credentials` are the headers that the ERP gets to see, once it is allowed.
    `challenge`: how the caller may authenticate, where the reason alone does not say it.
    `draft` is what a draft of the policy says, as "reason:rule".
    """

    decision: str = "-"
    revision: str = "-"
    began_ns: int = field(default_factory=time.perf_counter_ns)
    us: int = 0  # from then to the answer
    system: str = "-"
    here: Circumstances | None = None
    claims: Claims | None = None
    person: str = ""
    erp_user: str = ""
    operations: tuple[Operation, ...] = ()
    whole: bool = True
    operation: str = "-"
    reason: Reason = Reason.UNAVAILABLE
    rule: str = "-"
    detail: str = ""
    pointer: str = ""
    challenge: str = ""
    pending: bool = False  # the ERP must say what the records hold
    draft: str = "-"
    observed: bool = False  # nobody has proved who it is
    credentials: dict[str, str] = field(default_factory=dict, repr=False)
    watcher: asyncio.Task[None] | None = None
    gone: bool = False

    @property
    def subject(self) -> str:
        return self.claims.subject if self.claims else ""

    def allow(self) -> None:
        self.reason = Reason.ALLOWED
        self._end()

    def refuse(self, refused: Refused) -> None:
        self.reason, self.detail, self.pointer = refused.reason, refused.detail, refused.pointer
        self.challenge, self.credentials = refused.challenge, {}
        self.rule, self.operation = refused.rule or self.rule, refused.operation or self.operation
        self._end()

    def _end(self) -> None:
        self.us = (time.perf_counter_ns() - self.began_ns) // 1_000

    def watch(self, gone: Gone) -> None:
        """Stops the judgement when the gate goes away: its log may have named the decision already."""
        judging = asyncio.current_task()

        async def stop() -> None:
            await gone()
            self.gone = True
            if judging is not None:
                judging.cancel()

        self.watcher = asyncio.create_task(stop())

    def stop_watching(self) -> None:
        if self.watcher is not None:
            self.watcher.cancel()

    def raise_if_gone(self) -> None:
        if self.gone and (judging := asyncio.current_task()) is not None:
            judging.uncancel()
            raise ConnectionError("the gate no longer waits for an answer") from None
