"""The commands of acts.toml: each has the running installation do one thing, and says that it is so; or lists."""

import tomllib
from collections.abc import Mapping
from functools import partial
from importlib import resources
from typing import Any, Final

import click

from ostiary.cli.admin import ask
from ostiary.cli.shape import Command, home, show, show_table

ACTS: Final = tomllib.loads((resources.files("ostiary.cli") / "acts.toml").read_text("utf-8"))


def with_acts(group: click.Group) -> None:
    """Gives `group` its commands of the table."""
    for name, act in ACTS[str(group.name)].items():
        group.add_command(Command(name, help=act["help"], params=_parameters(act), callback=partial(_do, act)))


def _parameters(act: Mapping[str, Any]) -> list[click.Parameter]:
    return [
        *(click.Argument([name], metavar=shown) for name, shown in act.get("arguments", {}).items()),
        *(click.Option([f"--{name}"], default="", help=text) for name, text in act.get("options", {}).items()),
        *(click.Option([f"--{name}"], required=True, help=text) for name, text in act.get("needed", {}).items()),
        *(
            click.Option([f"--{name}-file", name], type=click.File(), help=text)
            for name, text in act.get("files", {}).items()
        ),
    ]


def _do(act: Mapping[str, Any], **given: Any) -> None:
    given |= {name: given[name].read().rstrip("\n") if given[name] else "" for name in act.get("files", {})}
    if "told" in act:
        made = ask(home(), act["does"], **given)
        show(made, act["told"].format(**given, made=made))
    else:
        show_table(ask(home(), act["does"], **given), act["columns"], empty=act["empty"])
