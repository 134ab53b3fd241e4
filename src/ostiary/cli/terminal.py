"""What all commands share: which installation they are about, asking it, and showing the answer."""

import json
import os
import pwd
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click

from ostiary.foundation.errors import SystemFault, counted, harmless, plainly
from ostiary.foundation.home import Home

DEFAULT_HOME: Final = "~/.ostiary"
CUT_MIN_CHARS: Final = 40  # no id is cut: it is there to be copied
ALIVE_WITHIN_S: Final = 5.0
RESTARTS: Final = "wait: `ostiary up` runs, and starts control again where it stays silent"
PATIENCE_S: Final = 300.0  # a change that gate or guard does not take is given up, and told, well before


def _remember(context: click.Context, option: click.Parameter, value: Any) -> None:
    context.meta[f"ostiary.{option.name}"] = value


HOME: Final = click.Option(
    ["--home"], envvar="OSTIARY_HOME", default=DEFAULT_HOME, show_default=True, is_eager=True,
    expose_value=False, callback=_remember, help="The installation's folder (or OSTIARY_HOME).",
)  # fmt: skip
JSON: Final = click.Option(["--json"], is_flag=True, expose_value=False, callback=_remember, help="Machine-readable.")


def home() -> Home:
    """The installation that this command is about."""
    return Home(root=Path(click.get_current_context().meta.get("ostiary.home", DEFAULT_HOME)).expanduser().absolute())


def look(home: Home, operation: str, read: Callable[..., Any], **parameters: Any) -> Any:
    """As `ask`; but for whom the folder is, nothing has to run."""
    return read(home, **parameters) if os.access(home.settings, os.R_OK) else ask(home, operation, **parameters)


def ask(home: Home, operation: str, **parameters: Any) -> Any:
    """What `operation` answers; its failure is raised here as the error it was there."""
    from ostiary.foundation import unix  # it takes a while to import, and no help page needs it

    try:
        unix.ask(home.socket("control"), "POST", "/internal/alive", timeout_s=ALIVE_WITHIN_S)  # a refusal will do
        return unix.call(home.socket("control"), f"operations/{operation}", parameters, timeout_s=PATIENCE_S)
    except (ConnectionError, FileNotFoundError, TimeoutError) as problem:
        from ostiary.control.installation import refuse_empty, runs

        refuse_empty(home)
        if runs(home) or isinstance(problem, TimeoutError):
            told = f"control does not answer: {plainly(problem)}"
            raise SystemFault("no-answer", told, hint=f"{RESTARTS}; `ostiary doctor` looks further") from problem
        told = f"no installation runs in {home.root}"
        raise SystemFault("not-running", told, hint="start it with `ostiary up`, or name --home") from problem
    except OSError as problem:
        told = f"{operation} got no answer: {plainly(problem)}"
        raise SystemFault("no-answer", told, hint="try `ostiary doctor`") from problem


def done(operation: str, text: str, **parameters: Any) -> None:
    """Has the running installation do it, and says what is so from now on."""
    show(ask(home(), operation, **parameters), text)


def waits(told: Mapping[str, Any], proposal: str, approve: str) -> str:
    """For whose yes it waits, and how that is given."""
    who = " or ".join(told["approvers"]) or "somebody whom `administrators` in settings.toml has to name"
    return at_home(f"waits for {counted(told['missing'], 'approval')}, by {who}: `ostiary {approve} {proposal}`")


def typed(prompt: str) -> str:
    """What is typed at a terminal as a password: twice, and not shown."""
    if not sys.stdin.isatty():
        raise click.UsageError("no terminal to ask for the password at: name --password-file FILE, or - to pipe it in")
    return str(click.prompt(prompt, hide_input=True, confirmation_prompt=True))


def pasteable(command: str, root: Path | None = None) -> str:
    """`ostiary COMMAND` as it can be pasted into any terminal: by its path where no shell would find it."""
    mine, found = Path(sys.executable).with_name("ostiary"), shutil.which("ostiary")
    known = found is not None and Path(found).resolve() == mine.resolve()
    where = f" --home {shlex.quote(str(root))}" if root else ""
    return f"{'ostiary' if known else shlex.quote(str(mine))} {command}{where}"


def at_home(text: str) -> str:
    """The text, its commands in backticks such that they can be pasted, where --home is not the default one."""
    root, text = home().root, with_names(text)
    if root == Path(DEFAULT_HOME).expanduser().absolute():
        return text
    return re.sub(r"`ostiary ([^`]+)`", lambda found: f"`{pasteable(found[1], root)}`", text)


def with_names(text: str) -> str:
    """The text, with the login of each user that it numbers, where this machine knows one."""
    return re.sub(r"\buid:(\d+)\b(?! \()", _login, text)


def _login(found: re.Match[str]) -> str:
    with suppress(KeyError):
        return f"{found[0]} ({pwd.getpwuid(int(found[1])).pw_name})"
    return found[0]


def wants_json() -> bool:
    return bool(click.get_current_context().meta.get("ostiary.json"))


def show(value: Any, text: str) -> None:
    """Prints `text` for people, or `value` as JSON where `--json` was given."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2) if wants_json() else text)


def noted(notes: Iterable[str]) -> str:
    """Each in a line of its own, behind another text."""
    return "".join(f"\nnote: {inset(note)}" for note in notes)


def inset(text: str) -> str:
    """Without control characters, and each further line set in: none looks like one of ours."""
    return "\n          ".join(map(harmless, text.split("\n")))


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, empty: str) -> str:
    """The rows in aligned columns, cut where a terminal has no room for them; `empty` where there are none."""
    lines = [[_cell(row.get(column)) for column in columns] for row in rows]
    if not lines:
        return empty
    lines.insert(0, [column.replace("_", " ").upper() for column in columns])
    widths = [max(len(line[n]) for line in lines) for n in range(len(columns))]
    widths = _fitting(widths) if sys.stdout.isatty() else widths
    return "\n".join("  ".join(map(_padded, line, widths)).rstrip() for line in lines)


def words(value: Any) -> str:
    """A value as people read it; "" where there is none."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(f"{name}: {one}" for name, one in value.items())
        case list():
            return ", ".join(map(words, value))
    return with_names(str(value))


def _cell(value: Any) -> str:
    return harmless(words(value)) or "-"


def _fitting(widths: list[int]) -> list[int]:
    """The widths, the greatest made smaller until the terminal has room for all."""
    room = shutil.get_terminal_size().columns - 2 * (len(widths) - 1)
    while sum(widths) > room and (widest := max(widths)) > CUT_MIN_CHARS:
        widths[widths.index(widest)] -= 1
    return widths


def _padded(cell: str, width: int) -> str:
    return cell.ljust(width) if len(cell) <= width else f"{cell[: width - 1]}…"
