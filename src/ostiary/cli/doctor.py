"""`ostiary doctor`: ordered checks; each that fails says which command or edit mends it."""

import click

from ostiary.cli.shape import Command, at_home, home, show
from ostiary.foundation.errors import harmless


@click.command(cls=Command)
def doctor() -> None:
    """Looks for what is wrong and says what mends it; exits 1 when something is."""
    from ostiary.control.health import examine

    findings = examine(home())
    lines = []
    for finding in findings:
        lines.append(
            f"{'ok' if finding['ok'] else 'NOT OK':7} {finding['check']:12} {at_home(harmless(finding['text']))}"
        )
        if not finding["ok"]:
            lines.append(f"        what to do: {at_home(finding['hint'])}")
    show(findings, "\n".join(lines))
    if not all(finding["ok"] for finding in findings):
        click.get_current_context().exit(1)
