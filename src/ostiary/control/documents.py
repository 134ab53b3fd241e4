"""From a policy's folder to a plan that may come into force; nothing needs to run, and nothing is changed.

The policy's file, those that it includes and its OpenAPI documents are read once, by who asks. What they say then travels
with the policy, so that what is shown, approved, proved and kept is one and the same.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from errno import EINVAL
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct, to_builtins

from ostiary.compile.plan import compile_policy
from ostiary.control.installation import Administrators, administrators
from ostiary.erp import openapi
from ostiary.erp.adapters import ADAPTERS
from ostiary.erp.catalogue import Offer, learned
from ostiary.erp.openapi import DOCUMENT_MAX_BYTES
from ostiary.foundation.clock import SystemClock, stamp
from ostiary.foundation.errors import OperatorFault, counted, owner_only, plainly
from ostiary.foundation.home import Home, Settings
from ostiary.plan.model import Approvals, Countries, Device, Kind, Plan, System, atoms
from ostiary.policy.document import Document, plain
from ostiary.policy.model import Policy
from ostiary.policy.model import System as Described
from ostiary.policy.node import TEXT_MAX_BYTES, Problem, problem_at, refusal
from ostiary.policy.parse import FILES_MAX, gathered, parse
from ostiary.policy.words import FORMS, Wrong
from ostiary.prove.questions import clock
from ostiary.prove.rules import Finding, broad, check, controls, ended, failures, few, impossible
from ostiary.prove.situation import Situation
from ostiary.prove.spelling import slips, void

LEFT_OUT_TOLD_MAX: Final = 20  # of one document
OBSERVED_MAX: Final = timedelta(days=90)  # an observation that nobody ends is no policy


def read_policy(path: Path) -> Document:
    """The policy with all that belongs to it; raises where one of its files can't be had."""
    try:
        text = _text(path, TEXT_MAX_BYTES)
    except (OSError, UnicodeDecodeError) as problem:
        why = f"{path} can't be read: {plainly(problem)}"
        raise OperatorFault("policy-unreadable", why, hint=owner_only(problem, "name the policy's file")) from problem
    if whole := _including(path.absolute()):
        told = f"{path.name} is part of {whole}, which includes it"
        raise OperatorFault("policy-part", told, hint=f"name that: `ostiary policy check {whole}`")
    return Document(text=text, file=str(path.absolute()), files=files_of(path.parent, path.name, text))


def _including(path: Path) -> Path | None:
    """The policy that includes this file, in its folder or in one above."""
    for whole in (Home(root=folder).policy for folder in path.parents):
        with suppress(OSError, UnicodeDecodeError):
            if whole != path and whole.is_file():
                files = gathered(whole.name, _text(whole, TEXT_MAX_BYTES), partial(_found, whole.parent))
                if str(path.relative_to(whole.parent)) in files.texts:
                    return whole
    return None


def files_of(folder: Path, file: str, text: str) -> dict[str, str]:
    """The files that belong to a policy of this text; raises with every problem of those that it includes."""
    files = gathered(file, text, partial(_found, folder))
    if files.problems:
        raise refusal(file, files.problems)
    included = {name: one for name, one in files.texts.items() if name != file}
    parsed = parse(text, file, included)
    documents, problems = _documents(folder, parsed.systems)
    if problems:
        raise refusal(file, [*parsed.problems, *problems])
    return included | documents


def _documents(folder: Path, systems: Iterable[Described]) -> tuple[dict[str, str], list[Problem]]:
    """Each system's OpenAPI document, and what is wrong with those that can't be had."""
    found, problems = dict[str, str](), list[Problem]()
    for system in systems:
        if system.spec:
            try:
                found[system.spec] = text_below(folder, system.spec, DOCUMENT_MAX_BYTES)
            except Wrong as problem:
                told = f"system {system.name}: {problem.message}"
                problems.append(problem_at(system.source, told, problem.hint))
    return found, problems


def _found(folder: Path, pattern: str) -> dict[str, str]:
    """What is hidden is not meant."""
    names = sorted(str(path.relative_to(folder)) for path in folder.glob(pattern))
    if not names:
        raise Wrong(f"there is no file {folder.absolute() / pattern}", "the name of one that is there, or leave it out")
    return {name: _included(folder, name) for name in names[: FILES_MAX + 1] if "/." not in f"/{name}"}


def _included(folder: Path, name: str) -> str:
    if not FORMS["PATH"].fullmatch(name):
        raise Wrong(f"{name} is no plain name of a file", "letters, digits, '-', '_' and '.', and .yaml at its end")
    return text_below(folder, name, TEXT_MAX_BYTES)


def text_below(folder: Path, name: str, max_bytes: int) -> str:
    """What the file of this name says, at most one byte more than it may; raises Wrong where it can't be had."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise Wrong(f"{name} leads out of the policy's folder", "copy the file into it")
    if not path.is_file():
        hint = "the name of one that is there; a draft stands beside policy.yaml, whose files it names"
        raise Wrong(f"{name} is no file in the policy's folder", hint)
    try:
        return _text(path, max_bytes)
    except (OSError, UnicodeDecodeError) as problem:
        raise Wrong(f"{name} can't be read: {plainly(problem)}", "a text in UTF-8") from problem


def _text(path: Path, max_bytes: int) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # of a pipe too, into which nobody writes
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(EINVAL, "it is no regular file")
        return file.read(max_bytes + 1).decode()


def read_document(document: Document) -> tuple[Policy, Plan, tuple[str, ...]]:
    """The policy, its plan, and what of its OpenAPI documents nobody can call; raises with every problem at once.

    Nothing is read from a disk here.
    """
    parsed = parse(document.text, document.name, document.files)
    if parsed.policy is None:
        raise refusal(document.name, parsed.problems)
    _refuse_stray(document, parsed.files | {one.spec for one in parsed.policy.systems})
    found = [(one, _loaded(one, document.files)) for one in parsed.policy.systems if one.spec]
    notes = tuple(note for system, loaded in found for note in unlike(system, loaded))
    return parsed.policy, compile_policy(parsed.policy, {one.name: loaded.routes for one, loaded in found}), notes


class Proof(Struct, frozen=True, kw_only=True):
    """What held when a revision was proved: so many rules of each kind, for so many grants and people.

    `warnings`: what is wider than it should be, or names what no system knows.
    """

    never: int
    always: int
    apart: int
    tests: int
    grants: int
    people: int
    warnings: tuple[str, ...]


def prove_document(
    document: Document,
    home: Home,
    settings: Settings,
    assigned: Mapping[str, frozenset[str]] = {},
    near: Situation | None = None,
) -> tuple[Plan, Proof]:
    """The plan, proved against its own rules and tests; `settings` are those that it would be in force with."""
    policy, plan, unlike_told = read_document(document)
    now = near.at if near else SystemClock().now()
    unfit = [
        *check(plan, assigned, near, now.date()),
        *ended(plan, now.date()),
        *_unknowable(plan, settings),
        *_our_own(plan, settings),
        *_unapprovable(plan, administrators(home, settings)),
        *_endless(plan, now),
    ]
    known = offers(plan, home)
    named = list(slips(policy, known))
    _refuse([*unfit, *void(policy, known), *failures(plan, policy)], policy.file, [*unlike_told, *named])
    told = *unlike_told, *broad(plan), *controls(plan), *named
    notes = (*_alone(plan.approvals), *observed(plan.systems, now), *_over_midnight(policy), *impossible(plan), *told)
    return plan, Proof(
        never=len(plan.never), always=len(plan.always), apart=len(plan.apart), tests=len(policy.tests), grants=len(plan.grants),
        people=len(assigned), warnings=notes,
    )  # fmt: skip


def _unknowable(plan: Plan, settings: Settings) -> Iterator[Finding]:
    """Contexts about what this installation never gets to know: they would never hold."""
    for context in plan.contexts:
        kinds, where = {type(atom) for atom in atoms(context.formula)}, (context.source,) if context.source else ()
        if Countries in kinds and not settings.geoip_database:
            told = f"context {context.name} names countries, and no database tells where a caller is"
            hint = 'set geoip_database = "FILE.mmdb" in settings.toml, start again'
            yield Finding(message=told, hint=hint, where=where)
        if Device in kinds and not settings.ask_client_certificate:
            told = f"context {context.name} asks for a device, and the gate asks nobody for a certificate"
            hint = "set ask_client_certificate = true in settings.toml, start again"
            yield Finding(message=told, hint=hint, where=where)


def _our_own(plan: Plan, settings: Settings) -> Iterator[Finding]:
    """Systems whose tokens would be taken for those of the identity server itself."""
    for system in plan.systems:
        if system.audience in {settings.issuer, settings.scim}:
            told = f"the audience of {system.name} is that of the identity server itself"
            yield Finding(message=told, hint=f"audience: urn:{plan.policy}:{system.name}", where=(system.source,))


def _unapprovable(plan: Plan, who: Administrators) -> Iterator[Finding]:
    """What asks for the yes of more people than there are would never change again."""
    asks = plan.approvals
    for what, others in (("policy", asks.policy), ("break-glass", asks.break_glass), ("roles", asks.roles)):
        if others >= len(who.approvers):
            told = f"approvals: {what} asks for {counted(others, 'other person')}, more than settings.toml names"
            hint = 'set administrators = ["anna", "ben"], users of this machine, in settings.toml, start again'
            yield Finding(message=told, hint=hint)


def _alone(asked: Approvals) -> Iterator[str]:
    if asked.giving and not asked.policy:
        yield "approvals: a role needs the yes of others, but one alone may change what it may do; add policy: 1"


def _over_midnight(policy: Policy) -> Iterator[str]:
    for one in policy.contexts:
        start, end = one.hours
        if 0 < end < start:
            told = f"context {one.name} crosses midnight: {clock(start)} to {clock(end)} of the next day"
            yield f"{one.source}:{one.source.column}: {told}"


def _endless(plan: Plan, now: datetime) -> Iterator[Finding]:
    for system in plan.systems:
        if system.observed(now + OBSERVED_MAX):
            told = f"system {system.name} is observed for more than {OBSERVED_MAX.days} days from now"
            yield Finding(message=told, hint="an earlier end; it can be put off", where=(system.source,))


def observed(systems: Iterable[System], now: datetime) -> Iterator[str]:
    """What is to be said of each that the policy does not hold yet, or that it says so of in vain."""
    for system in systems:
        if system.observed(now):
            told = f"until then whoever the ERP itself lets in may do all there, whatever the policy says ({system.source})"
            yield f"{system.name} is OBSERVED until {stamp(system.observe_until or now)}: {told}"
        elif system.observe_until:
            yield f"the observation of {system.name} is over: take observe-until out ({system.source})"


def offers(plan: Plan, home: Home) -> Mapping[str, Offer]:
    """What is known of each system: by its OpenAPI document, or learned from the ERP."""
    found = {}
    for system in plan.systems:
        if system.kind is Kind.OPENAPI:
            found[system.name] = openapi.offer(one for one in plan.routes if one.system == system.name)
        elif catalogue := learned(home.catalogue(system.name)):
            found[system.name] = ADAPTERS[system.kind].offer(catalogue, system.name)
    return found


def test_document(document: Document, home: Home) -> dict[str, Any]:
    """Runs the tests in the document; raises with those that fail. One of what there is not shows nothing."""
    policy, plan, unlike_told = read_document(document)
    notes = [*unlike_told, *slips(policy, offers(plan, home))]
    _refuse(failures(plan, policy), policy.file, notes)
    return {"tests": len(policy.tests), "failed": 0, "warnings": notes}


def _refuse(findings: Iterable[Finding], file: str, notes: Iterable[str]) -> None:
    """With notes on names that no system knows: one of them may be why."""
    if found := list(findings):
        told = [f"{file} says what must not be, in {counted(len(found), 'place')}:", *map(str, found)]
        lines = [*told, *(f"note: {one}" for one in notes)]
        problems = map(_placed, found)
        raise OperatorFault("policy-refused", "\n  ".join(lines), hint="nothing was changed", problems=problems)


def _placed(found: Finding) -> dict[str, Any]:
    """For programs: at the first line that it cites, as a mistake of the text stands at its own."""
    place = to_builtins(found.where[0]) if found.where else {}
    return {**place, **to_builtins(found)}


def _refuse_stray(document: Document, named: frozenset[str]) -> None:
    """Who approves reads what is written out: no file may lie there in another's place, or be for nothing."""
    stray = [one for one in document.files if one not in named or one == document.name or not plain(one)]
    if stray:
        told = f"{document.name} names no such file, or not by its plain path: {few(stray)}"
        hint = "`ostiary policy apply FILE` sends what FILE names; no ./ or .."
        raise OperatorFault("file-not-named", told, hint=hint)


def _loaded(system: System, files: Mapping[str, str]) -> openapi.Loaded:
    if system.spec not in files:
        told = f"{system.source}: system {system.name}: {system.spec} did not come with the policy"
        raise OperatorFault("spec-missing", told, hint="`ostiary policy apply FILE` reads both")
    return described(files[system.spec].encode(), system.spec, system.name)


def described(data: bytes, file: str, system: str) -> openapi.Loaded:
    """What the document says, perhaps but for single operations; raises where it is unusable as a whole."""
    loaded = openapi.load(data, system)
    if loaded.fatal:
        told = "; ".join(map(str, loaded.problems))
        raise OperatorFault("spec-invalid", f"{Path(file).name}: {told}", hint="mend the OpenAPI document")
    return loaded


def unlike(system: System, loaded: openapi.Loaded) -> Iterator[str]:
    """What the document describes and nobody can call so: what is left out of it, and another place of its paths."""
    yield from (f"{system.spec}: {one}" for one in loaded.problems[:LEFT_OUT_TOLD_MAX])
    if len(loaded.problems) > LEFT_OUT_TOLD_MAX:
        yield f"{system.spec}: {len(loaded.problems) - LEFT_OUT_TOLD_MAX} more are left out"
    if loaded.base and not urlsplit(system.upstream).path:
        told = f"{system.source}: `servers` of {system.spec} has all paths below {loaded.base}, {system.name} has not"
        at, upstream = (f"{place}{loaded.base}" for place in (system.host, system.upstream))
        yield f'{told}; write at: {at}, upstream: "{upstream}"; or leave `servers` out of the document'
