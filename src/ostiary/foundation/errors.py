"""Every error says what happened, where, and what to do; its class says whose fault it is."""

from collections.abc import Iterable, Mapping
from typing import Any


class OstiaryError(Exception):
    """The one root. `code` is stable and greppable, `hint` is the next thing to do.

    `problems`: where there are several, each with its own message and hint, and its file and line, for programs.
    """

    exit_code = 1

    def __init__(self, code: str, message: str, *, hint: str = "", problems: Iterable[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.code, self.message, self.hint, self.problems = code, message, hint, [*problems]

    def __str__(self) -> str:
        first, *more = self.message.split("\n")
        hint = [f"  what to do: {self.hint}"] if self.hint else []
        return "\n".join([f"{first} [{self.code}]", *more, *hint])


class OperatorFault(OstiaryError):
    """The policy, a setting or a command was wrong: the operator can mend it."""

    exit_code = 2


class CallerFault(OstiaryError):
    """A request was wrong: its sender can mend it."""

    exit_code = 3


class SystemFault(OstiaryError):
    """Something around us failed: the ERP, the disk, the database, Envoy, a port."""

    exit_code = 4


class OurFault(OstiaryError):
    """A promise of our own code broke: please report it."""

    exit_code = 5


def told(problem: OstiaryError) -> dict[str, Any]:
    """The error as it travels from one of our processes to another; `retold` makes it again."""
    fault = next(kind.__name__ for kind in type(problem).__mro__ if kind.__module__ == __name__)
    words = {"code": problem.code, "message": problem.message, "hint": problem.hint}
    return {**words, "problems": problem.problems, "fault": fault}


def retold(error: Mapping[str, Any]) -> OstiaryError:
    kinds = {kind.__name__: kind for kind in (OperatorFault, CallerFault, SystemFault, OurFault)}
    fault = kinds.get(error["fault"], OurFault)
    return fault(error["code"], error["message"], hint=error["hint"], problems=error["problems"])


def owner_only(problem: Exception, else_hint: str) -> str:
    """What to do where a file can't be read: whoever may not read the installation's files asks what runs."""
    if isinstance(problem, PermissionError):
        return "only its owner reads it; an administrator uses `ostiary status`, `explain`, `policy list`, `policy show --out`"
    return else_hint


def plainly(problem: Exception) -> str:
    """What the operating system said, without its numbers; of what was read, that it is not what it should be."""
    match problem:
        case OSError():
            return (problem.strerror or "no answer in time").lower()
        case UnicodeError():
            return "it is no text in UTF-8"
    return "it is damaged"


def harmless(text: str) -> str:
    """No control characters: what a caller chose must not draw on an operator's terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def counted(number: int, what: str) -> str:
    """`1 alert`, `2 alerts`."""
    return f"{number} {what}{'' if number == 1 else 's'}"
