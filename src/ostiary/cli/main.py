"""The command `ostiary`: does what was asked for, and turns every failure into one clear message."""

import json
import re
import sys
from typing import Final

import click
from click.exceptions import NoArgsIsHelpError

from ostiary.cli.commands import Group
from ostiary.cli.terminal import with_names
from ostiary.control.commands import TABLE
from ostiary.foundation.errors import OperatorFault, OstiaryError, SystemFault, owner_only, told

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


cli = click.version_option(package_name="ostiary")(
    Group(
        "ostiary",
        TABLE,
        help="The doorkeeper of your ERP's APIs: one policy in front, readable aloud.",
        epilog=EXIT_CODES,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
)


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
