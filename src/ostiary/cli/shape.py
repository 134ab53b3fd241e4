"""What all commands share: `--home`, `--json`, and the two ways to show a result."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from ostiary.foundation.home import Home

DEFAULT_HOME: Final = "~/.ostiary"
_HOME = "ostiary.home"
_JSON = "ostiary.json"
CELL_MAX_CHARS: Final = 60


class Command(click.Command):
    """A command that knows `--home` and `--json`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--home"],
                envvar="OSTIARY_HOME",
                default=DEFAULT_HOME,
                show_default=True,
                expose_value=False,
                callback=_remember(_HOME),
                help="The installation's folder (or OSTIARY_HOME).",
            )
        )
        self.params.append(
            click.Option(
                ["--json"], is_flag=True, expose_value=False, callback=_remember(_JSON), help="Machine-readable."
            )
        )


class Group(click.Group):
    command_class = Command


def _remember(key: str) -> Any:
    def callback(context: click.Context, _: click.Parameter, value: Any) -> Any:
        context.meta[key] = value
        return value

    return callback


def home() -> Home:
    """The installation that this command is about."""
    return Home(root=Path(click.get_current_context().meta.get(_HOME, DEFAULT_HOME)).expanduser().absolute())


def wants_json() -> bool:
    return bool(click.get_current_context().meta.get(_JSON))


def show(value: Any, text: str) -> None:
    """Prints `text` for people, or `value` as JSON where `--json` was given."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2) if wants_json() else text)


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, empty: str) -> str:
    """The rows in aligned columns; `empty` where there are none."""
    lines = [[_cell(row.get(column)) for column in columns] for row in rows]
    if not lines:
        return empty
    lines.insert(0, [column.replace("_", " ").upper() for column in columns])
    widths = [max(len(line[n]) for line in lines) for n in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")
    return f"{text[: CELL_MAX_CHARS - 1]}…" if len(text) > CELL_MAX_CHARS else text or "-"
