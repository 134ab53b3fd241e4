"""`ostiary init`, `up`, `status`, `doctor`: an installation from nothing to running, and how it is."""

import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click

from ostiary.cli.admin import ask
from ostiary.cli.shape import Command, at_home, home, inset, noted, pasteable, show, wants_json

_UP: Final = ("up", "in a terminal of its own: it runs until Ctrl-C")
_CLIENT: Final = (
    "client add shop --role reader",
    "a client that may do what the policy lets `reader` do; shows its secret",
)
_APPLY: Final = ("policy apply", "puts in force what you say in {policy}; `reader` may do nothing yet")
_NEXT: Final = {
    "openapi": (_UP, _CLIENT, _APPLY),
    "tryton": (
        _UP,
        ("system account {system} --login gateway", "a Tryton user that only reads; asks for its password"),
        _CLIENT,
        ("client account shop --system {system} --login LOGIN", "the Tryton user as which the client's calls arrive"),
        _APPLY,
    ),
}


@click.command(cls=Command)
@click.option("--erp", type=click.Choice(["tryton", "openapi"]), required=True, help="What kind of ERP it is.")
@click.option("--system", default="erp", show_default=True, help="Its name in the policy: `NAME/OBJECT: VERBS`.")
@click.option("--upstream", required=True, help="Where the ERP answers, seen from here: http://127.0.0.1:8000")
@click.option("--database", help="Tryton's database; without it, `tryton`.")
@click.option("--spec", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="The OpenAPI document.")
@click.option("--host", default="localhost", show_default=True, help="The name callers reach the gate by.")
@click.option("--port", default=8443, show_default=True, help="The port the gate listens on.")
@click.option("--listen", default="127.0.0.1", show_default=True, help="The IP address it listens on.")
@click.option("--store", default="", help="A SQLAlchemy URL of an empty database; without it, SQLite in --home.")
def init(erp: str, database: str | None, spec: Path | None, **parameters: Any) -> None:
    """Makes an installation: enforcing from the first request, with everything denied."""
    from ostiary.control.prepare import initialise

    if (erp == "openapi") != bool(spec) or (erp == "openapi" and database):
        raise click.UsageError("--erp openapi needs --spec and no --database; --erp tryton takes no --spec")
    database = database or "tryton"
    plan, proof = initialise(home(), erp=erp, database=database, spec=spec, **parameters)
    path = f"/{database}/rpc/" if erp == "tryton" else next((one.template for one in plan.routes), "/")
    root, policy = home().root, home().policy
    system = plan.systems[0].name
    steps = [(pasteable(command.format(system=system), root), why.format(policy=policy)) for command, why in _NEXT[erp]]
    lines = "".join(f"\n  # {why}\n  {command}" for command, why in steps)
    reach = f"https://{parameters['host']}:{parameters['port']}{plan.systems[0].prefix}{path}"
    told = {"home": str(root), "policy": str(policy), "reach": reach, "next": [command for command, _ in steps]}
    own = urlsplit(parameters["upstream"]).path.rstrip("/") in {"", plan.systems[0].prefix}
    by = "by the ERP's own paths, as" if own else f"not by the ERP's own paths, but by those of {spec}, as"
    where = f"Callers reach the ERP through the gate {by} {reach}"
    text = f"{root} is an installation that denies everything.\n{where}\nNext:{lines}{noted(proof.warnings)}"
    show({**told, "warnings": proof.warnings}, text)


@click.command(cls=Command)
def up() -> None:
    """Runs the gate, the authorization server and the guard until Ctrl-C.

    Tells of itself on standard error: in plain lines at a terminal, in JSON lines elsewhere or with --json.
    """
    from ostiary.control.up import run
    from ostiary.foundation.logging import log_to_stderr

    log_to_stderr(plain=sys.stderr.isatty() and not wants_json())
    run(home())


@click.command(cls=Command)
@click.argument("key", type=click.Path(path_type=Path, dir_okay=False))
def reseal(key: Path) -> None:
    """Seals every secret under the master key in the file KEY, which is made where there is none.

    Nothing may run meanwhile. Backups from before open with the old key alone.
    """
    from ostiary.control.prepare import reseal

    told = reseal(home(), key.absolute())
    text = f"{told['secrets']} secrets open with the key in {told['file']} from now on, and with no other."
    show(
        told, f"{text}\nBefore the next start, name it as master_key_file in settings.toml, or put it where that says."
    )


@click.command(cls=Command)
def status() -> None:
    """What runs; exits 1 when something does not."""
    told = ask(home(), "status")
    lines = [f"{_mark(part):7} {part['name']:10} {at_home(inset(part['text']))}" for part in told["parts"]]
    show(told, "\n".join(lines))
    _exit(well=told["ok"])


@click.command(cls=Command)
def doctor() -> None:
    """Looks for what is wrong and says what mends it; exits 1 when something is."""
    from ostiary.control.health import examine

    findings, lines = examine(home()), []
    for one in findings:
        lines.append(f"{_mark(one):7} {one['check']:12} {at_home(inset(one['text']))}")
        if not one["ok"]:
            lines.append(f"        what to do: {at_home(one['hint'])}")
    show(findings, "\n".join(lines))
    _exit(well=all(one["ok"] for one in findings))


def _mark(found: dict[str, Any]) -> str:
    return "note" if found["note"] else "ok" if found["ok"] else "NOT OK"


def _exit(*, well: bool) -> None:
    if not well:
        click.get_current_context().exit(1)
