"""`ostiary demo` and `ostiary tour`: the product on a real ERP, thrown away afterwards."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any, Final

import click

from ostiary.cli.shape import Command, show, wants_json

CACHE: Final = "~/.cache/ostiary"
WIDTH: Final = 58


@click.command(cls=Command)
def demo() -> None:
    """A real ERP behind the gate, on loopback, until Ctrl-C.

    The first start installs Tryton and fills its database (about a minute); after that it takes seconds.
    """
    from ostiary.cli.demo.stand import stand

    _clear_up_when_told_to_stop()
    with stand(cache(), progress()) as running:
        click.echo(first_lines(running))
        running.erp.result()
        click.echo(erp_lines(running))
        _until_told_to_stop()
    click.echo("stopped; nothing is left but the cache")


@click.command(cls=Command)
def tour() -> None:
    """Walks the whole story against a running demo; exits 1 unless every line holds."""
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


def first_lines(running: Any) -> str:
    """What can be tried at once: the refusal, while the ERP is still being built."""
    root, call = running.home.root, f"curl --cacert {running.authority}"
    return f"""
The gate stands at {running.origin}. A refused call, and why:

  {call} -i -X POST {running.origin}/erp/rpc/

Every refusal has a decision id; `ostiary explain ID --home {root}` says which line of the policy it was.
"""


def erp_lines(running: Any) -> str:
    root, origin, call = running.home.root, running.origin, f"curl -s --cacert {running.authority}"
    body = '{"id": 1, "method": "model.party.party.search_read", "params": [[], 0, 3, null, ["name"], {}]}'
    return f"""
The ERP stands behind it. A token, an allowed call, the events of both:

  TOKEN=$({call} -K {running.shop_file} -d grant_type=client_credentials {origin}/identity/token | sed 's/.*"access_token":"\\([^"]*\\).*/\\1/')

  {call} -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '{body}' {origin}/erp/rpc/

  curl -s --unix-socket {root}/run/control.sock -X POST http://ostiary/operations/event.list

Accounts: client shop (role sales); anna and ben (role payments), passwords in {running.passwords}
Sign-in page, keys, metadata: {origin}/identity/.well-known/openid-configuration
Policy: {running.home.policy}. Change it, then: ostiary policy diff --home {root}; ostiary policy apply --home {root}
Ctrl-C stops everything and removes the folder.
"""


def _clear_up_when_told_to_stop() -> None:
    """SIGTERM ends it as Ctrl-C does, however far it has come: what was started is stopped, the folder removed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def _until_told_to_stop() -> None:
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()


def _say(text: str) -> None:
    if not wants_json():
        click.echo(text)


def _wanted(check: Any) -> str:
    return "" if check.holds else f"   expected {check.expected}"
