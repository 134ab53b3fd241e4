"""The policy's folder: its file, those that it includes and its OpenAPI documents, each read once, by who asks.

What they say then travels with the policy, so that what is shown, approved, proved and kept is one and the same.
"""

import os
import stat
from contextlib import suppress
from errno import EINVAL
from functools import partial
from pathlib import Path

from ostiary.erp.openapi import DOCUMENT_MAX_BYTES
from ostiary.foundation.errors import OperatorFault, owner_only, plainly
from ostiary.foundation.home import Home
from ostiary.policy.document import Document
from ostiary.policy.include import FILES_MAX, gathered
from ostiary.policy.model import Policy
from ostiary.policy.node import TEXT_MAX_BYTES
from ostiary.policy.parse import parse
from ostiary.policy.problem import refusal
from ostiary.policy.words import PATH, Wrong


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
    return included | _documents(folder, parse(text, file, included).policy)


def _documents(folder: Path, policy: Policy | None) -> dict[str, str]:
    """Each system's OpenAPI document; a policy with mistakes has none: they are told when it is read."""
    found = {}
    for system in policy.systems if policy else ():
        if system.spec:
            try:
                found[system.spec] = text_below(folder, system.spec, DOCUMENT_MAX_BYTES)
            except Wrong as problem:
                told = f"{system.source}: system {system.name}: {problem.message}"
                raise OperatorFault("spec-unreadable", told, hint=problem.hint) from problem
    return found


def _found(folder: Path, pattern: str) -> dict[str, str]:
    """What is hidden is not meant."""
    names = sorted(str(path.relative_to(folder)) for path in folder.glob(pattern))
    if not names:
        raise Wrong(f"there is no file {folder.absolute() / pattern}", "the name of one that is there, or leave it out")
    return {name: _included(folder, name) for name in names[: FILES_MAX + 1] if "/." not in f"/{name}"}


def _included(folder: Path, name: str) -> str:
    if not PATH.fullmatch(name):
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
