"""Every error says what happened, where, and what to do; its class says whose fault it is."""


class OstiaryError(Exception):
    """The one root. `code` is stable and greppable, `hint` is the next thing to do."""

    exit_code = 1

    def __init__(self, code: str, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

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
