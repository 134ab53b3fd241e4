"""Asks the running installation: one JSON question over its control socket."""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from ostiary.cli import shape
from ostiary.foundation import unix
from ostiary.foundation.errors import SystemFault, counted, plainly, retold
from ostiary.foundation.home import Home

PATIENCE_S: Final = 300.0  # a change that gate or guard does not take is given up, and told, well before


def look(home: Home, operation: str, read: Callable[..., Any], **parameters: Any) -> Any:
    """As `ask`; but for whom the folder is, nothing has to run."""
    return read(home, **parameters) if os.access(home.settings, os.R_OK) else ask(home, operation, **parameters)


def waits(told: Mapping[str, Any], proposal: str, approve: str) -> str:
    """For whose yes it waits, and how that is given."""
    who = " or ".join(told["approvers"]) or "somebody whom `administrators` in settings.toml has to name"
    return shape.at_home(f"waits for {counted(told['missing'], 'approval')}, by {who}: `ostiary {approve} {proposal}`")


def done(operation: str, text: str, **parameters: Any) -> None:
    """Has the running installation do it, and says what is so from now on."""
    shape.show(ask(shape.home(), operation, **parameters), text)


def ask(home: Home, operation: str, **parameters: Any) -> Any:
    """What `operation` answers; its failure is raised here as the error it was there."""
    try:
        answer = unix.ask(
            home.socket("control"), "POST", f"/operations/{operation}", json.dumps(parameters).encode(),
            timeout_s=PATIENCE_S,
        )  # fmt: skip
        content = json.loads(answer.body)
    except (ConnectionError, FileNotFoundError) as problem:
        from ostiary.control.installation import refuse_empty

        refuse_empty(home)
        told = f"no installation runs in {home.root}"
        raise SystemFault("not-running", told, hint="start it with `ostiary up`, or name --home") from problem
    except (OSError, ValueError) as problem:
        why = plainly(problem) if isinstance(problem, OSError) else "it broke off"
        raise SystemFault("no-answer", f"{operation} got no answer: {why}", hint="try `ostiary doctor`") from problem
    if "error" in content:
        raise retold(content["error"])
    return content["result"]
