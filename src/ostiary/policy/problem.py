"""What is wrong with a document: where, what, and what to write instead."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Final

from msgspec import Struct, to_builtins

from ostiary.foundation.errors import OperatorFault, counted

FEW: Final = 12


class Problem(Struct, frozen=True, kw_only=True):
    """`line` and `column` count from 1."""

    file: str
    line: int
    column: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: {self.message}"
        return f"{place}\n    write instead: {self.hint}" if self.hint else place


def refusal(file: str, problems: Sequence[Problem]) -> OperatorFault:
    """All of them as one error."""
    told = "\n".join(f"  {one}" for one in problems)
    message, hint = (
        f"{file} has {counted(len(problems), 'problem')}:\n{told}",
        "mend the lines above; nothing was changed",
    )
    return OperatorFault("policy-invalid", message, hint=hint, problems=map(to_builtins, problems))


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant; else all of them, when they are few; else nothing."""
    words = sorted(known)
    return closest(word, words) or (", ".join(words) if len(words) <= FEW else "")


def closest(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant; else nothing."""
    return next(iter(get_close_matches(word, known, n=1)), "")
