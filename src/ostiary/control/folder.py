"""The policy's folder: its file and those that it includes, read whole. Only who asks for the policy reads it."""

from functools import partial
from pathlib import Path

from ostiary.foundation.errors import OperatorFault, plainly
from ostiary.policy.include import FILES_MAX, gathered
from ostiary.policy.node import TEXT_MAX_BYTES
from ostiary.policy.problem import refusal
from ostiary.policy.words import PATH, Wrong


def read_policy(path: Path) -> tuple[str, dict[str, str]]:
    """The policy's text, and those of the files that it includes by their path below its folder."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        why = f"{path} can't be read: {plainly(problem)}"
        raise OperatorFault("policy-unreadable", why, hint="name the policy's file") from problem
    files = gathered(path.name, text, partial(_found, path.parent))
    if files.problems:
        raise refusal(path.name, files.problems)
    return text, {name: one for name, one in files.texts.items() if name != path.name}


def _found(folder: Path, pattern: str) -> dict[str, str]:
    """What is hidden is not meant."""
    names = sorted(str(path.relative_to(folder)) for path in folder.glob(pattern))
    return {name: _text(folder, name) for name in names[: FILES_MAX + 1] if "/." not in f"/{name}"}


def below(folder: Path, name: str) -> Path:
    """Where the file of this name is; raises Wrong where that is not below the folder."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise Wrong(f"{name} leads out of the policy's folder", "copy the file into it")
    return path


def _text(folder: Path, name: str) -> str:
    path = below(folder, name)
    if not PATH.fullmatch(name) or not path.is_file():
        raise Wrong(f"{name} is no file with a plain name", "letters, digits, '-', '_' and '.'")
    try:
        with path.open("rb") as file:
            return file.read(TEXT_MAX_BYTES + 1).decode()
    except (OSError, UnicodeDecodeError) as problem:
        raise Wrong(f"{name} can't be read: {plainly(problem)}", "a text in UTF-8") from problem
