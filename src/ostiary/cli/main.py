"""The command `ostiary`: finds the command that was asked for, and turns every failure into one clear message."""

import json
import sys
from importlib import import_module
from typing import Final

import click

from ostiary.foundation.errors import OperatorFault, OstiaryError, SystemFault

COMMANDS: Final = {
    "demo": "demo.commands:demo",
    "tour": "demo.commands:tour",
    "init": "running:init",
    "up": "running:up",
    "status": "running:status",
    "doctor": "doctor:doctor",
    "explain": "evidence:explain",
    "policy": "policy:policy",
    "system": "systems:system",
    "client": "principals:client",
    "user": "principals:user",
    "token": "principals:token",
    "alert": "watching:alert",
    "measure": "watching:measure",
    "event": "evidence:event",
    "audit": "evidence:audit",
    "backup": "evidence:backup",
    "restore": "evidence:restore",
}
SUMMARIES: Final = {
    "demo": "A real ERP behind the gate, on loopback, until Ctrl-C.",
    "tour": "Walks the whole story against a running demo.",
    "init": "Starts an installation: enforcing, everything denied.",
    "up": "Runs the gate.",
    "status": "What runs, in one screen.",
    "doctor": "Looks for what is wrong and says what mends it.",
    "explain": "Why a request was decided as it was.",
    "policy": "Check, format, compare, test and apply the policy.",
    "system": "The protected ERPs.",
    "client": "The machines that call.",
    "user": "The people who call.",
    "token": "Take tokens back.",
    "alert": "What the watch noticed.",
    "measure": "What the watch did about it, and undoing it.",
    "event": "What happened.",
    "audit": "Who changed what, and that nobody rewrote it.",
    "backup": "One file that holds everything.",
    "restore": "An installation from such a file.",
}


class Late(click.Group):
    """Imports a command's module only when it is asked for: the CLI starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        found: click.Command = getattr(import_module(f"ostiary.cli.{module}"), name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))


@click.group(cls=Late, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="ostiary")
def cli() -> None:
    """The doorkeeper of your ERP's APIs: one policy in front, readable aloud."""


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; a failure says what, where and what to do, and its exit code says whose it is."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:  # noqa: PLR0911  one for each kind of failure
    """The exit code: the command's own, or that of whose fault it was."""
    as_json = "--json" in arguments
    try:
        return int(cli.main(args=arguments, prog_name="ostiary", standalone_mode=False) or 0)
    except OstiaryError as problem:
        _show(problem, as_json=as_json)
        return problem.exit_code
    except click.UsageError as problem:
        _show(_misused(problem), as_json=as_json)
        return problem.exit_code
    except click.ClickException as problem:
        _show(OperatorFault("file", problem.format_message()), as_json=as_json)
        return OperatorFault.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        return 0
    except OSError as problem:
        where = f"{problem.filename}: " if problem.filename else ""
        hint = "see that the path exists, that its disk has room, and that this user may use it"
        _show(SystemFault("file-fails", f"{where}{problem.strerror or problem}", hint=hint), as_json=as_json)
        return SystemFault.exit_code


def _misused(problem: click.UsageError) -> OperatorFault:
    command = problem.ctx.command_path if problem.ctx else "ostiary"
    message = " ".join(problem.format_message().split())
    return OperatorFault("usage", f"{message[:1].lower()}{message[1:]}".rstrip("."), hint=f"see `{command} --help`")


def _show(problem: OstiaryError, *, as_json: bool) -> None:
    if as_json:
        error = {"code": problem.code, "message": problem.message, "hint": problem.hint}
        click.echo(json.dumps({"error": error}, ensure_ascii=False), err=True)
    else:
        click.echo(f"error: {problem}", err=True)
