"""A line of the access log, written from the facts of an event as the gate would write it."""

import json
from typing import Any

from ostiary.event.record import LINE, NONE


def written(**facts: Any) -> bytes:
    """It ends with a newline. A fact that is not named is a dash; one of the guard's makes it a line of a guarded request."""
    told = {name: NONE if value is None else str(value) for name, value in facts.items()}
    told |= {"acting": f"client:{told['client']}#1" if told.get("client", NONE) != NONE else NONE}
    told |= {"judged": f"{told.get('reason', NONE)}:{told.get('rule', NONE)}"}
    system, _, operation = told.get("operation", NONE).rpartition("/")
    told["operation"] = f"{told.get('system', system or NONE)}/{operation}"
    told["class"] = "x:0"
    inside = [told.get(name, NONE) for name in ("guard_us", "reason", "rule", "draft", "unproved", "operation")]
    told["inside"] = NONE if inside[0] == NONE else " ".join(inside)
    line = {key: " ".join(told.get(name, NONE) for name in names) for key, names in LINE.items()}
    return json.dumps(line).encode() + b"\n"
