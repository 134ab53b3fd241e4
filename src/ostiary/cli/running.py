"""`ostiary init`, `ostiary up`, `ostiary status`: an installation from nothing to running."""

import shlex
from pathlib import Path
from typing import Any, Final

import click

from ostiary.cli.admin import ask
from ostiary.cli.shape import Command, home, show

MARK = {True: "ok", False: "NOT OK"}
_TRYTON_STEPS: Final = """\
up {where}  # in a terminal of its own: it runs until Ctrl-C
system account erp --login gateway {where}  # an ERP user that only reads; asks for its password
client add shop --role reader {where}"""
_OPENAPI_STEPS: Final = """\
up {where}  # in a terminal of its own: it runs until Ctrl-C
client add shop --role reader {where}
policy apply {where}"""
_THEN: Final = "Then say in {policy} what `reader` may do, and apply it again."
_TRYTON_THEN: Final = """\
Then say in {policy} what `reader` may do: ostiary policy apply {where}
And as which ERP user the shop's calls arrive: ostiary client account shop --system erp --login LOGIN {where}"""


@click.command(cls=Command)
@click.option("--erp", type=click.Choice(["tryton", "openapi"]), required=True, help="What kind of ERP it is.")
@click.option("--upstream", required=True, help="Where the ERP answers, seen from here: http://127.0.0.1:8000")
@click.option("--database", default="", help="Tryton's database name.")
@click.option("--spec", type=click.Path(path_type=Path), help="The OpenAPI document, for --erp openapi.")
@click.option("--host", default="localhost", show_default=True, help="The name callers reach the gate by.")
@click.option("--port", default=8443, show_default=True, help="The port the gate listens on.")
@click.option("--listen", default="127.0.0.1", show_default=True, help="The address it listens on.")
def init(**parameters: Any) -> None:
    """Starts an installation: enforcing from the first request, with everything denied."""
    from ostiary.control.prepare import initialise

    if parameters["erp"] == "openapi" and not parameters["spec"]:
        raise click.UsageError("--erp openapi needs --spec, the OpenAPI document")
    initialise(home(), **parameters)
    where = f"--home {shlex.quote(str(home().root))}"
    tryton = parameters["erp"] == "tryton"
    steps = [
        f"ostiary {step}" for step in (_TRYTON_STEPS if tryton else _OPENAPI_STEPS).format(where=where).splitlines()
    ]
    told = {"home": str(home().root), "policy": str(home().policy), "next": steps}
    lines = "\n".join(f"  {step}" for step in steps)
    then = (_TRYTON_THEN if tryton else _THEN).format(policy=home().policy, where=where)
    show(told, f"{home().root} is an installation that denies everything. Next:\n{lines}\n{then}")


@click.command(cls=Command)
def up() -> None:
    """Runs the gate, the authorization server and the guard until Ctrl-C."""
    from ostiary.control.up import run
    from ostiary.foundation.logging import log_to_stderr

    log_to_stderr()
    run(home())


@click.command(cls=Command)
def status() -> None:
    """What runs; exits 1 when something does not."""
    told = ask(home(), "status")
    lines = [f"{MARK[part['ok']]:7} {part['name']:10} {part['text']}" for part in told["parts"]]
    show(told, "\n".join(lines))
    if not told["ok"]:
        click.get_current_context().exit(1)
