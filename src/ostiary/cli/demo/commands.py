"""`ostiary demo` and `ostiary tour`: the product on a real ERP, thrown away afterwards."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any, Final

import click

from ostiary.cli.shape import Command, show, wants_json

CACHE: Final = "~/.cache/ostiary"
WIDTH: Final = 58
STOP: Final = (signal.SIGINT, signal.SIGTERM)


@click.command()
def demo() -> None:
    """A real ERP behind the gate, on loopback, until Ctrl-C.

    The first start installs Tryton and fills its database (about a minute); after that it takes seconds. All of it
    stands in a folder of its own under /tmp, which is removed at the end.
    """
    from ostiary.cli.demo.lines import erp_lines, first_lines
    from ostiary.cli.demo.stand import stand

    _clear_up_when_told_to_stop()
    with stand(cache(), progress()) as running:
        click.echo(first_lines(running))
        running.erp.result()
        click.echo(erp_lines(running))
        with suppress(KeyboardInterrupt):
            Event().wait()
    click.echo("stopped; nothing is left but the cache")


@click.command(cls=Command, about_home=False)
def tour() -> None:
    """Starts a demo of its own and walks the whole story on it; exits 1 unless every line holds."""
    from ostiary.cli.demo.stand import stand
    from ostiary.cli.demo.story import STEPS, Story

    _clear_up_when_told_to_stop()
    told: list[dict[str, Any]] = []
    with stand(cache(), progress()) as running:
        story = Story(stand=running, erp=running.erp.result())
        for number, (title, step) in enumerate(STEPS, 1):
            _say(click.style(f"\n{number}. {title}", bold=True))
            for check in step(story):
                mark = click.style("holds ", fg="green") if check.holds else click.style("FAILS ", fg="red")
                _say(f"   {mark} {check.what:{WIDTH}} {check.got}" + _wanted(check))
                told.append({"step": number, "title": title, **check._asdict(), "holds": check.holds})
    failed = sum(not line["holds"] for line in told)
    show(told, f"\n{len(told) - failed} of {len(told)} hold")
    if failed:
        click.get_current_context().exit(1)


def cache() -> Path:
    """Where the installed ERP is kept between starts (or OSTIARY_CACHE)."""
    return Path(os.environ.get("OSTIARY_CACHE", CACHE)).expanduser().absolute()


def progress() -> Callable[[str], None]:
    """Says what is done and how long it has taken; on standard error, so that results stay clean."""
    began = time.monotonic()
    return lambda text: click.echo(f"  {time.monotonic() - began:5.1f} s  {text}", err=True)


def _clear_up_when_told_to_stop() -> None:
    """The first Ctrl-C or SIGTERM ends it: what was started is stopped, the folder removed. More change nothing."""

    def stop(*_: object) -> None:
        for number in STOP:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in STOP:
        signal.signal(number, stop)


def _say(text: str) -> None:
    if not wants_json():
        click.echo(text)


def _wanted(check: Any) -> str:
    return "" if check.holds else f"   expected {check.expected}"
