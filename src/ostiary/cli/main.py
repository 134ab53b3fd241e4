"""The command `ostiary`: finds the command that was asked for, and turns every failure into one clear message."""

import json
import re
import sys
from importlib import import_module
from typing import Final

import click
from click.exceptions import NoArgsIsHelpError

from ostiary.cli.shape import Group, with_names
from ostiary.foundation.errors import OperatorFault, OstiaryError, SystemFault, owner_only, told

# Command -> where it is, and its line in the help.
COMMANDS: Final = {
    "demo": ("demo.commands:demo", "A real ERP behind the gate, on loopback, until Ctrl-C."),
    "init": ("running:init", "Makes an installation: enforcing, everything denied."),
    "up": ("running:up", "Runs the gate."),
    "status": ("running:status", "What runs, in one screen."),
    "doctor": ("running:doctor", "Looks for what is wrong and says what mends it."),
    "explain": ("evidence:explain", "Why a request was decided as it was."),
    "policy": ("policy:policy", "Check, format, compare, prove and apply the policy; ask what it means."),
    "system": ("systems:system", "The protected ERPs."),
    "client": ("principals:client", "The machines that call, and the applications people sign in with."),
    "registration": ("delegated:registration", "Clients that register themselves, as far as you let them."),
    "provisioning": ("delegated:provisioning", "A company's directory that keeps users here, by SCIM."),
    "user": ("principals:user", "Those who sign in."),
    "provider": ("providers:provider", "Whose word on who somebody is counts here: Entra ID, Keycloak, Okta."),
    "device": ("devices:device", "The devices that contexts of the policy ask for."),
    "review": ("review:review", "Who holds which role, whether it was used, and who looked at it."),
    "break-glass": ("break_glass:break_glass", "One role more for a time, in an emergency."),
    "token": ("principals:token", "Take tokens back."),
    "alert": ("watching:alert", "What the watch noticed."),
    "measure": ("watching:measure", "What the watch did about it, and undoing it."),
    "event": ("evidence:event", "What happened."),
    "audit": ("evidence:audit", "Who changed what, and that nobody rewrote it."),
    "backup": ("evidence:backup", "One file that holds everything."),
    "reseal": ("running:reseal", "Another master key."),
    "restore": ("evidence:restore", "An installation from such a file."),
}
FORMATS: Final = re.compile("does not match the formats? .*")  # of a time, as nobody types them
EXIT_CODES: Final = """\b
Exit codes:
  0    done, and all is well
  1    done, and something is not well (status, doctor)
  2    the command, the policy or a setting is wrong
  3    what was asked for is not there, or can't be given
  4    something around it fails: the ERP, a disk, a port; or nothing runs
  5    a fault of Ostiary's own
  130  stopped by Ctrl-C before it was done
"""


class Late(Group):
    """Imports a command's module only when it is asked for: the CLI starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        found: click.Command = getattr(import_module(f"ostiary.cli.{module}"), name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    cls=Late, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
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
    except NoArgsIsHelpError as asked:
        click.echo(asked.format_message(), err=True)
        return asked.exit_code
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
        click.echo("stopped", err=True)
        return 130
    except BrokenPipeError:
        return 0
    except OSError as problem:
        where = f"{problem.filename}: " if problem.filename else ""
        hint = owner_only(problem, "see that the path exists, that its disk has room, and that this user may use it")
        _show(SystemFault("file-fails", f"{where}{problem.strerror or problem}", hint=hint), as_json=as_json)
        return SystemFault.exit_code


def _misused(problem: click.UsageError) -> OperatorFault:
    command = problem.ctx.command_path if problem.ctx else "ostiary"
    message = FORMATS.sub(
        "is no time: write 2026-03-03, or 2026-03-03T10:00", " ".join(problem.format_message().split())
    )
    return OperatorFault("usage", f"{message[:1].lower()}{message[1:]}".rstrip("."), hint=f"see `{command} --help`")


def _show(problem: OstiaryError, *, as_json: bool) -> None:
    if as_json:
        error = {name: value for name, value in told(problem).items() if name != "fault"}  # that is the exit code
        click.echo(json.dumps({"error": error}, ensure_ascii=False), err=True)
    else:
        click.echo(f"error: {with_names(str(problem))}", err=True)
