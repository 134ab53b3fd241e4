"""What all commands share: `--home`, `--json`, two ways to show a result, and the command that was probably meant."""

import json
import pwd
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import click

from ostiary.foundation.errors import OperatorFault, harmless
from ostiary.foundation.home import Home

DEFAULT_HOME: Final = "~/.ostiary"
CUT_MIN_CHARS: Final = 40  # no id is cut: it is there to be copied
LISTED_MAX: Final = 1_000
MOMENT: Final = click.DateTime(
    ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M%z", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z")
)


def _remember(context: click.Context, option: click.Parameter, value: Any) -> None:
    context.meta[f"ostiary.{option.name}"] = value


HOME: Final = click.Option(
    ["--home"], envvar="OSTIARY_HOME", default=DEFAULT_HOME, show_default=True, is_eager=True,
    expose_value=False, callback=_remember, help="The installation's folder (or OSTIARY_HOME).",
)  # fmt: skip
JSON: Final = click.Option(["--json"], is_flag=True, expose_value=False, callback=_remember, help="Machine-readable.")


class Command(click.Command):
    """A command that knows `--json`, and `--home` where it is about an installation."""

    def __init__(self, *args: Any, about_home: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += [HOME, JSON] if about_home else [JSON]


class Group(click.Group):
    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, but says which command was probably meant."""
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            top, near = ctx.find_root(), get_close_matches(args[0], self.list_commands(ctx), n=1)
            path = f"{ctx.command_path} {near[0]}" if near else ""
            if isinstance(top.command, click.Group) and args[0] in top.command.list_commands(top):
                path = f"{top.command_path} {args[0]}"
            meant = f"did you mean `{path}`? " if path else ""
            hint = f"{meant}see `{ctx.command_path} --help`"
            raise OperatorFault("usage", f"there is no command {args[0]!r}", hint=hint)
        return super().resolve_command(ctx, args)


LIMIT = click.option(
    "--limit", type=click.IntRange(1, LISTED_MAX), default=20, show_default=True, help="At most so many."
)


def home() -> Home:
    """The installation that this command is about."""
    return Home(root=Path(click.get_current_context().meta.get("ostiary.home", DEFAULT_HOME)).expanduser().absolute())


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


def show_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, empty: str) -> None:
    """Prints the rows as a table for people."""
    show(rows, table(rows, columns, empty=empty))


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
