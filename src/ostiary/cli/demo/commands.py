"""`ostiary demo`: the product on a real ERP, thrown away afterwards."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import click

CACHE: Final = "~/.cache/ostiary"


@click.command()
def demo() -> None:
    """A real ERP behind the gate, on loopback, until Ctrl-C.

    The first start installs Tryton and fills its database (about a minute); after that it takes seconds. All of it
    stands in a folder of its own under /tmp, which is removed at the end.
    """
    from ostiary.cli.demo.lines import lines
    from ostiary.cli.demo.stand import real_erp, stand

    clear_up_when_told_to_stop()
    say = progress()
    with stand(say) as running:
        click.echo(lines("gate", running))
        with real_erp(running, cache(), say):
            click.echo(lines("erp", running))
            with suppress(KeyboardInterrupt):
                signal.pause()
    click.echo("stopped; nothing is left but the cache")


def cache() -> Path:
    """Where the installed ERP is kept between starts (or OSTIARY_CACHE)."""
    return Path(os.environ.get("OSTIARY_CACHE", CACHE)).expanduser().absolute()


def progress() -> Callable[[str], None]:
    """Says what is done and how long it has taken; on standard error, so that results stay clean."""
    began = time.monotonic()
    return lambda text: click.echo(f"  {time.monotonic() - began:5.1f} s  {text}", err=True)


def clear_up_when_told_to_stop() -> None:
    """The first Ctrl-C or SIGTERM ends it: what was started is stopped, the folder removed. More change nothing."""
    from ostiary.cli.demo.erp import STOP

    def stop(*_: object) -> None:
        for number in STOP:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in STOP:
        signal.signal(number, stop)
