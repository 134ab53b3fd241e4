"""`ostiary alert` and `ostiary measure`: what the watch noticed, and what it did about it."""

import click

from ostiary.cli.admin import ask
from ostiary.cli.shape import Group, home, show, table


@click.group(cls=Group)
def alert() -> None:
    """What the watch noticed."""


@alert.command("list")
@click.option("--all", "everything", is_flag=True, help="Resolved ones too.")
def list_alerts(everything: bool) -> None:
    """Alerts, the newest first."""
    rows = ask(home(), "alert.list", everything=everything)
    show(rows, table(rows, ("id", "severity", "state", "rule", "key", "count", "last"), empty="No alert."))


@alert.command("ack")
@click.argument("alert_id")
@click.option("--note", default="", help="What you know about it.")
def acknowledge(alert_id: str, note: str) -> None:
    """Says that somebody looks after it."""
    ask(home(), "alert.acknowledge", alert=alert_id, note=note)
    show({}, f"{alert_id} is acknowledged.")


@alert.command("resolve")
@click.argument("alert_id")
@click.option("--note", default="", help="How it ended.")
def resolve(alert_id: str, note: str) -> None:
    """Says that it is over."""
    ask(home(), "alert.resolve", alert=alert_id, note=note)
    show({}, f"{alert_id} is resolved.")


@click.group(cls=Group)
def measure() -> None:
    """Responses that expire by themselves; undoing one is safe."""


@measure.command("list")
@click.option("--all", "everything", is_flag=True, help="Ended ones too.")
def list_measures(everything: bool) -> None:
    """Measures in force."""
    rows = ask(home(), "measure.list", everything=everything)
    show(rows, table(rows, ("id", "kind", "target", "rule", "reason", "expires"), empty="No measure in force."))


@measure.command("undo")
@click.argument("measure_id")
def undo(measure_id: str) -> None:
    """Ends a measure now."""
    ask(home(), "measure.undo", measure=measure_id)
    show({}, f"{measure_id} is undone.")
