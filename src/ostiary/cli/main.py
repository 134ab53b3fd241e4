"""The command `ostiary`: does what was asked for, and turns every failure into one clear message.

Its commands are those of control's commands.toml: their parameters, what they ask, and how the answer is shown.
"""

import json
import re
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Final

import click
from click.exceptions import NoArgsIsHelpError

from ostiary.cli.terminal import HOME, JSON, ask, at_home, home, look, noted, show, table, typed, with_names
from ostiary.control.commands import OSTIARY, SHARED, TABLE
from ostiary.foundation.errors import OperatorFault, OstiaryError, SystemFault, owner_only, told

FORMATS: Final = re.compile("does not match the formats? .*")  # of a time, as nobody types them
TYPES: Final[Mapping[str, Any]] = {
    "file": click.Path(path_type=Path, dir_okay=False),
    "folder": click.Path(path_type=Path, file_okay=False),
    "found": click.Path(path_type=Path, dir_okay=False, exists=True),
    "moment": click.DateTime(
        ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M%z", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z")
    ),
    "number": int,
    "path": click.Path(path_type=Path),
    "text": click.File(),
}
TAKEN: Final[Mapping[str, Callable[[click.Context, click.Parameter, Any], Any]]] = {
    "absolute": lambda _, __, given: given.absolute(),
    "client": lambda _, __, given: given.removeprefix("client:"),
    "document": lambda _, __, file: resolve_name("ostiary.control.documents:read_policy")(file or home().policy),
    "name": lambda context, _, given: _principal(context, given)[1],
    "policy": lambda _, __, file: file or home().policy,
    "principal": lambda context, _, given: ":".join(_principal(context, given)),
}


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; a failure says what, where and what to do, and its exit code says whose it is."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:  # noqa: PLR0911  one for each kind of failure
    """The exit code: the command's own, or that of whose fault it was."""
    as_json = "--json" in arguments
    try:
        return int(cli.main(args=arguments, prog_name="ostiary", standalone_mode=False) or 0)
    except NoArgsIsHelpError as asked:
        click.echo(asked.format_message(), err=True)
        return asked.exit_code
    except OstiaryError as problem:
        return _tell(problem, as_json=as_json)
    except click.UsageError as problem:
        return _tell(_misused(problem), as_json=as_json)
    except click.ClickException as problem:
        return _tell(OperatorFault("file", problem.format_message()), as_json=as_json)
    except (KeyboardInterrupt, click.Abort):
        click.echo("stopped", err=True)
        return 130
    except BrokenPipeError:
        return 0
    except OSError as problem:
        where = f"{problem.filename}: " if problem.filename else ""
        hint = owner_only(problem, "see that the path exists, that its disk has room, and that this user may use it")
        return _tell(SystemFault("file-fails", f"{where}{problem.strerror or problem}", hint=hint), as_json=as_json)


def _misused(problem: click.UsageError) -> OperatorFault:
    command = problem.ctx.command_path if problem.ctx else "ostiary"
    told = " ".join(problem.format_message().split())
    message = FORMATS.sub("is no time: write 2026-03-03, or 2026-03-03T10:00", told)
    return OperatorFault("usage", f"{message[:1].lower()}{message[1:]}".rstrip("."), hint=f"see `{command} --help`")


def _tell(problem: OstiaryError, *, as_json: bool) -> int:
    """Returns the exit code of whose fault it was."""
    if as_json:
        error = {name: value for name, value in told(problem).items() if name != "fault"}  # that is the exit code
        click.echo(json.dumps({"error": error}, ensure_ascii=False), err=True)
    else:
        click.echo(f"error: {with_names(str(problem))}", err=True)
    return problem.exit_code


class _Group(click.Group):
    """Commands of a table, each made when it is asked for: the CLI starts fast."""

    def __init__(self, name: str, acts: Mapping[str, Any], **more: Any) -> None:
        super().__init__(name, **more)
        self.acts = acts

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.acts) if ctx.parent else list(self.acts)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  click's signature
        return _command(cmd_name, self.acts[cmd_name]) if cmd_name in self.acts else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, but says which command was probably meant."""
        if not args[0].startswith("-") and args[0] not in self.acts:
            near = get_close_matches(args[0], self.list_commands(ctx), n=1)
            path = f"{ctx.command_path} {near[0]}" if near else ""
            if args[0] in TABLE:
                path = f"{ctx.find_root().command_path} {args[0]}"
            meant = f"did you mean `{path}`? " if path else ""
            hint = f"{meant}see `{ctx.command_path} --help`"
            raise OperatorFault("usage", f"there is no command {args[0]!r}", hint=hint)
        return super().resolve_command(ctx, args)


def _command(name: str, act: Mapping[str, Any]) -> click.Command:
    about = {"help": act["help"], "short_help": act.get("line")}
    if not act.keys() & {"does", "reads", "runs"}:
        acts = {one: inner for one, inner in act.items() if isinstance(inner, dict)}
        return _Group(name, acts | SHARED.get(act.get("also"), {}), **about)
    options = dict(act.get("options", {}))
    for shared in act.get("also", ()):
        options = {**options, **SHARED[shared], **options}
    known = {"home": HOME, "json": JSON}
    parameters: list[click.Parameter] = [
        *(_argument(name, given) for name, given in act.get("arguments", {}).items()),
        *(_option(name, given) for name, given in options.items()),
        *(known[common] for common in act.get("knows", known)),
    ]
    return click.Command(name, params=parameters, callback=partial(_run, act), **about)


def _argument(name: str, given: Mapping[str, Any] | str) -> click.Argument:
    return click.Argument([name], **_facts({"metavar": given} if isinstance(given, str) else given))


def _option(flag: str, given: Mapping[str, Any] | str) -> click.Option:
    facts = _facts({"help": given, "default": ""} if isinstance(given, str) else given)
    return click.Option([f"--{flag}", facts.pop("name", flag.replace("-", "_"))], **facts)


def _facts(given: Mapping[str, Any]) -> dict[str, Any]:
    """As click takes them."""
    facts = {**given, "callback": TAKEN.get(given.get("takes", ""))}
    facts.pop("takes", None)
    match given.get("type"):
        case str(name):
            facts["type"] = TYPES[name]
        case list(choices):
            facts["type"] = click.Choice(choices)
        case dict(limits):
            facts["type"] = click.IntRange(**limits)
    return facts


def _principal(context: click.Context, given: str) -> tuple[str, str]:
    """Its kind, which is the group's name, and its name, which may have been given with the kind before it."""
    kind = str(context.parent and context.parent.info_name)
    return kind, given.removeprefix(f"{kind}:")


def _run(act: Mapping[str, Any], **parameters: Any) -> None:
    """Does what the table says; a parameter that nobody gave is left to whoever is asked."""
    given = act.get("else", {}) | {name: _said(one) for name, one in parameters.items() if one is not None}
    if "asks" in act and "password" not in given:
        given["password"] = typed(act["asks"].format(**given))
    if "runs" in act:
        resolve_name(f"ostiary.cli.{act['runs']}")(**given)
    else:
        made = _answer(act, given)
        show(made, _shown(act, made, given))


def _said(value: Any) -> Any:
    match value:
        case datetime():
            return value.astimezone()
        case tuple():
            return list(value)
    return value.read().rstrip("\n") if hasattr(value, "read") else value


def _answer(act: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    if "reads" not in act:
        return ask(home(), act["does"], **given)
    read = resolve_name(f"ostiary.{act['reads']}")
    return look(home(), act["does"], read, **given) if "does" in act else read(home=home(), **given)


def _shown(act: Mapping[str, Any], made: Any, given: Mapping[str, Any]) -> str:
    """The answer for people: in columns, as a function tells it, or in one sentence."""
    if "columns" in act:
        return table(made, act["columns"], empty=act["empty"])
    if "shows" in act:
        return str(resolve_name(f"ostiary.cli.{act['shows']}")(made, **given))
    warnings = made.get("warnings", ()) if isinstance(made, dict) else ()
    return at_home(act["told"].format(made=made, **given).rstrip("\n") + noted(warnings))


cli = click.version_option(package_name="ostiary")(
    _Group(
        "ostiary", TABLE, **OSTIARY, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
    )
)
