"""`ostiary init`, `ostiary up`, `ostiary status`: an installation from nothing to running."""

from typing import Any

import click

from ostiary.cli.admin import ask
from ostiary.cli.shape import Command, home, show

MARK = {True: "ok", False: "NOT OK"}


@click.command(cls=Command)
@click.option("--erp", type=click.Choice(["tryton", "openapi"]), required=True, help="What kind of ERP it is.")
@click.option("--upstream", required=True, help="Where the ERP answers, seen from here: http://127.0.0.1:8000")
@click.option("--database", default="", help="Tryton's database name.")
@click.option("--spec", default="", help="The OpenAPI document, for --erp openapi.")
@click.option("--host", default="localhost", show_default=True, help="The name callers reach the gate by.")
@click.option("--port", default=8443, show_default=True, help="The port the gate listens on.")
@click.option("--listen", default="127.0.0.1", show_default=True, help="The address it listens on.")
def init(**parameters: Any) -> None:
    """Starts an installation: enforcing from the first request, with everything denied."""
    from ostiary.control.prepare import initialise

    initialise(home(), **parameters)
    root = home().root
    steps = (
        f"ostiary up --home {root}",
        f"ostiary client add shop --role reader --home {root}",
        f"ostiary policy apply --home {root}     # after you let `reader` do something in {home().policy}",
    )
    told = {"home": str(root), "policy": str(home().policy), "next": list(steps)}
    show(told, f"{root} is an installation that denies everything. Next:\n" + "\n".join(f"  {step}" for step in steps))


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
