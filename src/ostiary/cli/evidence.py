"""`ostiary event`, `audit`, `alert`: what happened, and what the watch noticed."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from ostiary.cli.terminal import at_home, home, pasteable, table
from ostiary.foundation.errors import counted


def events(rows: Sequence[dict[str, Any]], *, limit: int, **wanted: Any) -> str:  # noqa: ARG001  how many is no wish
    """Requests."""
    columns = ("at", "status", "reason", "who", "what", "rule", "decision")
    empty = "No request matches." if any(wanted.values()) else "Nothing happened yet."
    return table(map(_line, rows), columns, empty=empty)


def _line(row: dict[str, Any]) -> dict[str, Any]:
    """Of a caller and an operation that are not known, what is: the address, the method and the path."""
    who = row["source"] if row["subject"] == "-" else row["subject"]
    who += " (break-glass)" if row["break_glass"] else ""
    what = f"{row['method']} {row['path']}" if row["operation"] == "-" else row["operation"]
    return {**row, "who": who, "what": what}


def usage(told: dict[str, Any], **_: Any) -> str:
    """What is unlike what each caller does as a rule, and that."""
    from ostiary.control.evidence import PART

    strange = table(told["unusual"], ("principal", "what", "value", "times", "decision"), empty="nothing")
    columns = ("principal", "days", "calls", "busiest", "last", "operations", "networks")
    usual = table(told["usual"], columns, empty="Nothing was allowed yet.")
    left = "" if told["whole"] else f"\nnote: {PART}"
    return f"Unusual in the last day:\n{strange}\n\nAs a rule, before it:\n{usual}{left}"


def entries(rows: Sequence[dict[str, Any]], *, action: str, **_: Any) -> str:
    """Of the audit log."""
    empty = "No entry matches." if action else "Nothing was changed yet."
    return table(rows, ("index", "at", "actor", "action", "object", "reason"), empty=empty)


def alerts(rows: Sequence[dict[str, Any]], **_: Any) -> str:
    """In columns, and how to see more of one."""
    shown = table(rows, ("id", "severity", "state", "rule", "key", "count", "last"), empty="No alert.")
    more = f"\nWhat is behind one, and what to do: {pasteable('alert show ID', home().root)}" if rows else ""
    return shown + more


def alert(told: dict[str, Any], **_: Any) -> str:
    """All that is known of one, and the commands that go on from there."""
    return "\n".join(_alert(told))


def _alert(told: dict[str, Any]) -> Iterator[str]:
    yield f"{told['id']}  {told['rule']}, {told['severity']}, {told['state']}"
    yield f"what     {told['what']}"
    yield f"who      {told['key']}"
    yield f"when     {told['first']} to {told['last']}, {counted(told['count'], 'time')}"
    yield f"why      {told['why']}"
    if figures := {name: value for name, value in told["evidence"].items() if name != "decisions"}:
        yield f"figures  {', '.join(f'{name} {json.dumps(value)}' for name, value in figures.items())}"
    if told["note"]:
        yield f"note     {told['note']} ({told['actor']})"
    for one in told["measures"]:
        yield f"measure  {one['id']}: {one['kind']} {one['target']} until {one['expires']}"
    yield from ["events", *(f"  {line}" for line in told["events"])] if told["events"] else []
    yield f"what to do: {at_home(told['investigate'])}"
    yield from [f"  {pasteable(command, home().root)}" for command in _next(told)]


def _next(told: dict[str, Any]) -> Iterator[str]:
    """The commands that go on from here."""
    yield from [f"explain {decision}" for decision in told["evidence"].get("decisions", [])[-1:]]
    yield from [f"measure undo {one['id']}" for one in told["measures"]]
    yield from [f"alert {act} {told['id']}" for act in ("ack", "resolve") if told["state"] != "resolved"]
