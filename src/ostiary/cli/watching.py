"""`ostiary alert` and `ostiary measure`: what the watch noticed, and what it did about it."""

import json
from collections.abc import Iterator
from typing import Any

import click

from ostiary.cli.acts import with_acts
from ostiary.cli.admin import ask
from ostiary.cli.shape import Group, at_home, home, pasteable, show, show_table, table
from ostiary.foundation.errors import counted


@click.group(cls=Group)
def alert() -> None:
    """What the watch noticed."""


with_acts(alert)


@alert.command("list")
@click.option("--all", "everything", is_flag=True, help="Resolved ones too.")
def list_alerts(everything: bool) -> None:
    """Alerts, the newest first."""
    rows = ask(home(), "alert.list", everything=everything)
    shown = table(rows, ("id", "severity", "state", "rule", "key", "count", "last"), empty="No alert.")
    more = f"\nWhat is behind one, and what to do: {pasteable('alert show ID', home().root)}" if rows else ""
    show(rows, shown + more)


@alert.command("show")
@click.argument("alert_id")
def show_alert(alert_id: str) -> None:
    """What happened, who and when, why it matters, the events behind it, and what to do."""
    told = ask(home(), "alert.show", alert=alert_id)
    show(told, "\n".join(_alert(told)))


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
    yield from [
        f"measure  {one['id']}: {one['kind']} {one['target']} until {one['expires']}" for one in told["measures"]
    ]
    yield from ["events", *(f"  {line}" for line in told["events"])] if told["events"] else []
    yield f"what to do: {at_home(told['investigate'])}"
    yield from [f"  {pasteable(command, home().root)}" for command in _next(told)]


def _next(told: dict[str, Any]) -> Iterator[str]:
    """The commands that go on from here."""
    yield from [f"explain {decision}" for decision in told["evidence"].get("decisions", [])[-1:]]
    yield from [f"measure undo {one['id']}" for one in told["measures"]]
    yield from [f"alert {act} {told['id']}" for act in ("ack", "resolve") if told["state"] != "resolved"]


@click.group(cls=Group)
def measure() -> None:
    """Responses that expire by themselves; undoing one is safe."""


with_acts(measure)


@measure.command("list")
@click.option("--all", "everything", is_flag=True, help="Ended ones too.")
def list_measures(everything: bool) -> None:
    """Measures in force."""
    rows = ask(home(), "measure.list", everything=everything)
    show_table(rows, ("id", "kind", "target", "rule", "reason", "expires"), empty="No measure in force.")
