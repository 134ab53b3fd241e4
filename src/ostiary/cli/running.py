"""`ostiary init`, `up`, `status`, `doctor`: an installation from nothing to running, and how it is."""

import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click

from ostiary.cli.terminal import ask, at_home, home, inset, noted, pasteable, show, wants_json
from ostiary.foundation.data import beside

NEXT: Final = beside(__file__)["next"]


def init(erp: str, database: str = "", spec: Path | None = None, **parameters: Any) -> None:
    """Makes an installation: enforcing from the first request, with everything denied."""
    from ostiary.control.prepare import initialise
    from ostiary.policy.sections import KINDS

    if (erp == "openapi") != bool(spec) or (erp == "openapi" and database):
        raise click.UsageError("--erp openapi needs --spec and no --database; no other one takes a --spec")
    database = database or erp
    plan, proof = initialise(home(), erp=erp, database=database, spec=spec, **parameters)
    path = KINDS[plan.systems[0].kind].path.format(database=database)
    path = path or next((one.template for one in plan.routes), "/")
    root, policy = home().root, home().policy
    told = {"system": plan.systems[0].name, "policy": policy}
    further = [one for one in NEXT if not (spec and one.get("asked"))]
    steps = [(pasteable(one["command"].format(**told), root), one["why"].format(**told)) for one in further]
    lines = "".join(f"\n  # {why}\n  {command}" for command, why in steps)
    reach = f"https://{parameters['host']}:{parameters['port']}{plan.systems[0].prefix}{path}"
    facts = {"home": str(root), "policy": str(policy), "reach": reach, "next": [command for command, _ in steps]}
    own = urlsplit(parameters["upstream"]).path.rstrip("/") in {"", plan.systems[0].prefix}
    by = "by the ERP's own paths, as" if own else f"not by the ERP's own paths, but by those of {spec}, as"
    by_name = f"\nIts database is {database}." if not spec else ""
    where = f"Callers reach the ERP through the gate {by} {reach}"
    text = f"{root} is an installation that denies everything.{by_name}\n{where}\nNext:{lines}{noted(proof.warnings)}"
    show({**facts, "warnings": proof.warnings}, text)


def up() -> None:
    """Runs the gate, the authorization server and the guard until Ctrl-C.

    Tells of itself on standard error: in plain lines at a terminal, in JSON lines elsewhere or with --json.
    """
    from ostiary.control.up import run
    from ostiary.foundation.secret import log_to_stderr

    log_to_stderr(plain=sys.stderr.isatty() and not wants_json())
    run(home())


def status() -> None:
    """What runs; exits 1 when something does not."""
    told = ask(home(), "status")
    _show(told, [{**part, "check": part["name"], "hint": ""} for part in told["parts"]], 10)


def doctor() -> None:
    """Looks for what is wrong and says what mends it; exits 1 when something is."""
    from ostiary.control.health import examine

    findings = examine(home())
    _show(findings, findings, 12)


def _show(told: Any, findings: list[dict[str, Any]], width: int) -> None:
    """A line for each, `width` for its name, and what to do where that is told apart."""
    lines = []
    for one in findings:
        mark = "note" if one["note"] else "ok" if one["ok"] else "NOT OK"
        lines.append(f"{mark:7} {one['check']:{width}} {at_home(inset(one['text']))}")
        if one["hint"]:
            lines.append(f"        what to do: {at_home(one['hint'])}")
    show(told, "\n".join(lines))
    if not all(one["ok"] for one in findings):
        click.get_current_context().exit(1)
