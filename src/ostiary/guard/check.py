"""One request judged: may it pass, as whom, and why not; in the order that the contract with the gate names."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from itertools import chain
from typing import Final, NoReturn

from msgspec.structs import asdict, replace

from ostiary.erp.operation import Call, Operation, Request, Unreadable
from ostiary.erp.route import OWN_KEYS
from ostiary.foundation import api_key
from ostiary.foundation.clock import Clock, stamp
from ostiary.foundation.errors import SystemFault
from ostiary.foundation.jose import TokenRefused, issued_by
from ostiary.foundation.secret import redact
from ostiary.guard import proof, records, validation
from ostiary.guard.accounts import Accounts
from ostiary.guard.answer import Gone, Refused, Trace
from ostiary.guard.erp import Erp, HandsOver, NotEstablished, NotLetIn
from ostiary.guard.journal import Journal, Line
from ostiary.guard.knowledge import Caller, Knowledge, Ready
from ostiary.guard.locks import Busy, Locks, Record
from ostiary.plan.decide import NO_ACCOUNT, UNCLEAR, Decision, Facts, Reason, decide
from ostiary.plan.model import OBSERVE, UNKNOWN, Circumstances, HandOver, System, age

DRAFT_OPERATIONS_MAX: Final = 100  # what a draft would say of more is not worth the wait
SUBJECT_HEADER: Final = "x-gw-sub"  # from the gate: it has verified a token
RECORDS_LOGGED_MAX: Final = 100
TRIES_MAX: Final = 3  # a link that leads elsewhere each time has no end soon
RECORD_MAX_CHARS: Final = 200  # an id in a path is what a caller wrote there
ANSWER_MAX_S: Final = 9.0  # the gate gives up after 10, and would log an end to what then still begins
TOLD: Final = ("decision", "revision", "system", "subject", "person", "erp_user", "reason", "rule", "us")

log = logging.getLogger(__name__)


class Check:
    def __init__(  # noqa: PLR0917  wired once, by name
        self,
        knowledge: Knowledge,
        accounts: Accounts,
        erp_of: Callable[[System], Erp | None],
        hands_over: Callable[[System], HandsOver | None],
        journal: Journal,
        locks: Locks,
        clock: Clock,
    ) -> None:
        self._knowledge, self._accounts = knowledge, accounts
        self._erp_of, self._hands_over = erp_of, hands_over
        self._journal, self._locks, self._clock = journal, locks, clock

    async def answer(self, asked: Request, gone: Gone) -> Trace:
        """The answer to `asked`; whatever goes wrong on the way to a yes is a no.

        Raises ConnectionError when the gate went away while records were held for it; then they are let go.
        """
        decision, revision = (asked.headers.get(f"x-gw-{name}", "") or "-" for name in ("decision", "revision"))
        trace = Trace(decision=decision, revision=revision)
        try:
            async with asyncio.timeout(ANSWER_MAX_S):
                await self._judge(asked, trace, gone)
                trace.allow()
                await self._journal.record(self._line(trace))
                return trace
        except asyncio.CancelledError:
            self._locks.release(trace.decision)
            trace.raise_if_gone()
            raise
        except Exception as problem:  # noqa: BLE001  every one of them is a no
            trace.refuse(_refused(problem, trace.decision))
        finally:
            trace.stop_watching()
        self._locks.release(trace.decision)
        self._journal.note(self._line(trace))
        return trace

    async def _judge(self, asked: Request, trace: Trace, gone: Gone) -> None:
        """Returns when the request may pass; raises Refused. The order is that of `plan.decide.Reason`."""
        ready = self._ready(trace)
        system = ready.system(asked.headers.get("host", ""), asked.path)
        if system is None:
            raise Refused(Reason.UNKNOWN_OPERATION, "no system stands at this address")
        trace.system = system.name
        caller = await self._caller(asked, system, trace)
        request = self._request(asked, system)
        read, match = self._knowledge.understood(ready, system, request, observed=trace.observed)
        if isinstance(read, Unreadable):
            trace.whole = False
            if read.operations:  # role first: who may not read an object does not learn its fields by asking
                await self._decide(ready, system, caller, read.operations, asked, trace)
            raise Refused(Reason[read.problem.name], read.detail, pointer=read.pointer)
        if read.opened:
            facts = await self._decide(ready, system, caller, read.operations, asked, trace)
        else:
            trace.operation, trace.draft = read.operations[0].permission, str(Decision(reason=Reason.UNKNOWN_OPERATION))
        invalid = validation.validate(match and match.route, request, match.values if match else {})
        if invalid is not None:
            raise Refused(Reason[invalid.problem.name], invalid.detail, pointer=invalid.pointer)
        if match:
            trace.credentials |= validation.given(match.route, request)
        if trace.observed:
            return
        call = await self._hold_and_look(ready, system, facts, read, trace, gone)
        if system.hand_over in {HandOver.SESSION, HandOver.OAUTH}:
            trace.credentials["authorization"] = await self._credential(system, trace.subject, request, trace)
        await self._accounts.remember(ready.apart, call, trace.person, self._clock.now())

    def _ready(self, trace: Trace) -> Ready:
        ready = self._knowledge.plan(trace.revision)
        if ready is None:
            raise Refused(Reason.UNAVAILABLE, "gate and guard do not have the same revision of the policy yet")
        if not self._knowledge.fresh:
            raise Refused(Reason.CLOSED, "what was revoked can't be read now")
        if trace.decision == "-":
            raise Refused(Reason.UNAVAILABLE, "the request has no decision id")
        return ready

    async def _caller(self, asked: Request, system: System, trace: Trace) -> Caller:
        if SUBJECT_HEADER not in asked.headers and system.observed(self._clock.now()):
            return await self._unproved(asked, system, trace)
        scheme, _, text = asked.headers.get("authorization", "").partition(" ")
        if scheme.lower() not in {"bearer", "dpop"} or not text:
            raise Refused(Reason.TOKEN_MISSING, "send an access token: Authorization: Bearer ...")
        try:
            caller = await self._knowledge.caller(text, system.audience)
        except TokenRefused:
            raise Refused(Reason.TOKEN_INVALID, "this is no valid access token for this system") from None
        trace.claims = caller.claims
        if (scheme.lower() == "dpop") is not caller.claims.bound.startswith("jkt:"):  # the gate asked for the proof
            raise Refused(Reason.TOKEN_UNBOUND, "the token is not bound as it is shown")
        if self._knowledge.revoked(caller.keys):
            raise Refused(Reason.TOKEN_REVOKED, "the token was revoked")
        trace.person = await self._accounts.person(caller.claims.subject)
        return caller

    async def _unproved(self, asked: Request, system: System, trace: Trace) -> Caller:
        """Of a caller without a valid token: his own credential goes to the ERP, which judges it, and none of ours does."""
        shown = ("authorization", *OWN_KEYS)  # no cookie: beside another credential it makes him somebody else
        own = {name: asked.headers[name] for name in shown if name in asked.headers}
        text = " ".join(own.values())
        if issued_by(self._knowledge.issuer, text) or api_key.shown_in(text):
            raise Refused(Reason.TOKEN_INVALID, "this is no valid access token for this system")
        login = proof.unproved_login(own.get("authorization", ""))
        roles = await self._accounts.roles(system.name, login) if login else frozenset[str]()
        caller = proof.unproved_caller(system.name, login, roles)
        trace.claims, trace.observed, trace.credentials, trace.rule = caller.claims, True, own, OBSERVE
        return caller

    def _request(self, asked: Request, system: System) -> Request:
        if asked.headers.get("content-encoding", "identity") != "identity":
            raise Refused(Reason.INVALID, "a body is sent as it is, not encoded")
        return replace(asked, path=asked.path.removeprefix(system.prefix) or "/")

    async def _decide(  # noqa: PLR0917  what the evaluator needs
        self, ready: Ready, system: System, caller: Caller, does: tuple[Operation, ...], asked: Request, trace: Trace
    ) -> Facts:
        """Refuses what no record could mend; `trace.pending` where the ERP must be asked first."""
        trace.operations, trace.operation = does, does[0].permission
        trace.here = self._circumstances(asked, caller)
        roles = await self._knowledge.roles(caller.claims.role_set) or frozenset()
        facts = Facts(system=system.name, here=trace.here, roles=roles, scopes=caller.claims.scopes, operations=does)
        decision = decide(ready.plan, facts)
        if (draft := self._knowledge.draft) is not None:
            trace.draft = UNCLEAR if len(does) > DRAFT_OPERATIONS_MAX else str(decide(draft, facts))
        if trace.observed:
            trace.draft = trace.draft if draft else str(decision)
            return facts
        trace.rule, trace.pending = decision.rule, decision.reason is Reason.RECORD
        if not (decision.allowed or trace.pending):
            _refuse_by(decision, trace)
        return facts

    async def _hold_and_look(  # noqa: PLR0917  what is looked at, and for whom
        self, ready: Ready, system: System, facts: Facts, call: Call, trace: Trace, gone: Gone
    ) -> Call:
        """Which records a link leads to is known once they were read, and sure once they are held: then it is judged.

        The call as it was judged: with writes to all that it changes by their parts.
        """
        now = self._clock.now()
        case = records.Case(
            system=system.name, call=call, person=trace.person, now=now, erp=self._erp_of(system), past=self._accounts,
            account=await self._accounts.account(trace.subject, system.name),
        )  # fmt: skip
        try:
            call = await records.with_wholes(ready.apart, case, self._knowledge.owners(system.name))
        except NotEstablished as problem:
            raise Refused(Reason.APART, f"what it changes by its parts can't be established: {problem}") from None
        rules = [
            rule
            for rule in ready.apart
            if rule.then.system == system.name
            and not rule.controlled(facts.roles, now.date())
            and any(map(rule.then.holds, call.operations))
        ]
        case = replace(case, call=call)
        for _ in range(TRIES_MAX):
            linked = await records.linked(rules, case)
            await self._hold(ready, call, linked, trace, gone)
            try:
                if trace.pending:
                    await self._look_at_records(ready, facts, case, trace)
                await records.judge(rules, replace(case, held=linked))
            except records.Moved:
                self._locks.release(trace.decision)
            else:
                return call
        raise Refused(Reason.UNAVAILABLE, "the records that it is linked to change meanwhile; try again")

    async def _look_at_records(self, ready: Ready, facts: Facts, case: records.Case, trace: Trace) -> None:
        """Decides once more, with what the ERP holds of the records, which are held meanwhile."""
        try:
            found = await records.established(ready.plan, facts, case)
        except NotEstablished as problem:
            raise Refused(Reason.RECORD, f"what the record holds can't be established: {problem}") from None
        decision = decide(ready.plan, replace(facts, records=found))
        trace.rule = decision.rule
        if not decision.allowed:
            _refuse_by(decision, trace)

    def _circumstances(self, asked: Request, caller: Caller) -> Circumstances:
        """Address, country and certificate are those that the gate saw; the rest the token says."""
        claims, now = caller.claims, self._clock.now()
        return Circumstances(
            at=now,
            source=ip_address(asked.headers.get("x-gw-source", "")),
            country=asked.headers.get("x-gw-country", UNKNOWN),
            device=self._knowledge.registered(claims.subject, asked.headers.get("x-gw-device", ""), claims.device),
            acr=claims.acr,
            age_s=age(now, claims.authenticated_at),
        )

    async def _hold(self, ready: Ready, call: Call, linked: Iterable[Record], trace: Trace, gone: Gone) -> None:
        """The records on which it turns, from here to the ERP's answer: what is read of them stays true."""
        others = chain(ready.where, self._knowledge.between(ready.apart))
        wanted = records.records_to_hold(ready.apart, call, others, reads=trace.pending)
        if len(wanted) > records.RECORDS_MAX:
            raise Refused(Reason.TOO_LARGE, f"more than {records.RECORDS_MAX} records in one request")
        if wanted and trace.watcher is None:
            trace.watch(gone)
        try:
            await self._locks.hold(trace.decision, wanted, trace.person, linked)
        except Busy:
            told = "another operation on the same record has not ended yet; try again"
            raise Refused(Reason.UNAVAILABLE, told) from None

    async def _credential(self, system: System, subject: str, request: Request, trace: Trace) -> str:
        """The mapped ERP user's own credential: the ERP's log still names a person."""
        account = await self._accounts.account(subject, system.name)
        erp = self._hands_over(system)
        if account is None or erp is None:
            raise Refused(Reason.UNAVAILABLE, f"{NO_ACCOUNT} {subject}; an administrator can map one")
        trace.erp_user = account.login
        try:
            return await erp.credential(account, request)
        except NotEstablished as problem:
            log.warning("decision %s: no credential for %s: %s", trace.decision, account.login, problem)
            reason = Reason.ERP_REFUSES if isinstance(problem, NotLetIn) else Reason.UNAVAILABLE
            raise Refused(reason, f"the system takes no credential for the mapped ERP user: {problem}") from None

    def _line(self, trace: Trace) -> Line:
        records = [f"{one.object}/{record}" for one in trace.operations for record in one.ids]
        did = tuple(dict.fromkeys(one.permission for one in trace.operations))
        claims = trace.claims
        return Line(
            at=stamp(self._clock.now()),
            detail=trace.detail + (f" ({redact(trace.pointer)})" if trace.pointer else ""),
            here={**asdict(trace.here), "source": str(trace.here.source)} if trace.here else {},
            client=claims.client if claims else "",
            role_set=claims.role_set if claims else "",
            scopes=tuple(sorted(claims.scopes)) if claims else (),
            operations=did[:RECORDS_LOGGED_MAX],
            whole=trace.whole and len(did) <= RECORDS_LOGGED_MAX,
            records=tuple(redact(record)[:RECORD_MAX_CHARS] for record in records[:RECORDS_LOGGED_MAX]),
            **{name: getattr(trace, name) for name in TOLD},
        )


def _refused(problem: Exception, decision: str) -> Refused:
    match problem:
        case Refused():
            return problem
        case TimeoutError():
            return Refused(Reason.UNAVAILABLE, "the request could not be judged in time; try again")
        case SystemFault():
            log.error("closed: %s", problem)
            return Refused(Reason.CLOSED, "no event can be recorded now")
        case _:
            log.error("decision %s failed", decision, exc_info=problem)
            return Refused(Reason.UNAVAILABLE, "the request can't be judged")


def _refuse_by(decision: Decision, trace: Trace) -> NoReturn:
    pointer, name = trace.pointer, trace.operation
    if decision.operation:
        pointer, name = decision.operation.pointer, decision.operation.permission
    told = f"{name}: {decision.words}"
    raise Refused(decision.reason, told, pointer=pointer, challenge=decision.challenge, operation=name)
