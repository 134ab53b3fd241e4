"""`make tour`: walks the whole story on a demo of its own; exits 1 unless every line holds. With --json it tells JSON."""

import json
import sys
from typing import Any, Final

import click

from ostiary.cli.demo.stand import cache, clear_up_when_told_to_stop, progress, real_erp, stand
from tools.tour.story import STEPS, Check, Story

WIDTH: Final = 58


def main(*, as_json: bool) -> int:
    """0 where all of it holds."""
    clear_up_when_told_to_stop()
    told: list[dict[str, Any]] = []
    say = progress()
    with stand(say) as running, real_erp(running, cache(), say) as erp:
        story = Story(stand=running, erp=erp)
        for number, (title, step) in enumerate(STEPS, 1):
            if not as_json:
                click.secho(f"\n{number}. {title}", bold=True)
            for check in step(story):
                told.append({"step": number, "title": title, **check._asdict(), "holds": check.holds})
                if not as_json:
                    _say(check)
    holding = sum(line["holds"] for line in told)
    click.echo(json.dumps(told, ensure_ascii=False, indent=2) if as_json else f"\n{holding} of {len(told)} hold")
    return 0 if holding == len(told) else 1


def _say(check: Check) -> None:
    mark = click.style("holds ", fg="green") if check.holds else click.style("FAILS ", fg="red")
    wanted = "" if check.holds else f"   expected {check.expected}"
    click.echo(f"   {mark} {check.what:{WIDTH}} {check.got}{wanted}")


if __name__ == "__main__":
    sys.exit(main(as_json="--json" in sys.argv[1:]))
