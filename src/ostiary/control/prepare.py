"""An installation from nothing to ready: folder, settings, keys, certificates, first revision, Envoy's files."""

import json
import os
import resource
import secrets
import shutil
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any, Final

from msgspec import to_builtins

from ostiary.audit.log import Change, sign_head
from ostiary.control.documents import Proof, described, files_of, prove_document
from ostiary.control.health import fit, opens
from ostiary.control.installation import Installation, alone, opened
from ostiary.control.reconcile import Reconciler
from ostiary.control.revisions import Act, record
from ostiary.envoy import daemon
from ostiary.envoy.condition import zone_of
from ostiary.envoy.resource import SYSTEM_AUTHORITIES, Edge
from ostiary.erp.openapi import Loaded
from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.home import Home, load_settings, mistakes, write_atomically
from ostiary.identity import keys
from ostiary.plan.model import Kind, Plan, Route
from ostiary.policy.document import Document
from ostiary.policy.fmt import fmt
from ostiary.policy.parse import parse
from ostiary.policy.sections import KINDS
from ostiary.store import database
from ostiary.store.plans import keep_plan, plan_in_force, put_in_force
from ostiary.tls import authority

START_FILE: Final = "start"
AS_SET: Final = ("listen", "port", "host", "any_client_certificate", "tls_minimum", "issuer", "trusted_hops")
CONNECTIONS_MAX: Final = 10_000  # of callers; below half of the file descriptors allowed
STARTER: Final = Template(resources.files("ostiary.control").joinpath("starter.yaml").read_text("utf-8"))


def initialise(
    home: Home,
    *,
    erp: str = "tryton",
    system: str = "erp",
    upstream: str = "",
    database: str = "tryton",
    spec: Path | None = None,
    text: str = "",
    **settings: Any,
) -> tuple[Plan, Proof]:
    """Makes an installation in an empty `home`, enforcing `text`, or a policy that denies everything; all or nothing.

    Where the document of `spec` has all paths below one, and `upstream` has none, this is so at the gate and behind it.
    """
    _refuse_unfit(home)

    loaded = described(spec.read_bytes(), spec.name, "") if spec else Loaded()
    base = "" if "/" in upstream.partition("://")[2].rstrip("/") else loaded.base
    document, example = (
        (f"{home.specs.name}/{spec.name}", _example(loaded.routes)) if spec else ("", KINDS[Kind(erp)].example)
    )
    host = settings.get("host", "localhost")
    policy = text or _starter(system, erp, upstream, database, document, host, base, example)
    _refuse_options(settings, "" if text else policy)
    found = home.root.exists()
    try:
        home.create()
        if spec:
            write_atomically(home.specs / spec.name, spec.read_bytes())
        files, policy = files_of(home.root, home.policy.name, policy), text or fmt(policy)
        made = _fill(home, _toml(settings), Document(text=policy, file=str(home.policy), files=files))
    except BaseException:
        for path in home.root.iterdir() if found else [home.root]:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
        raise
    return made


def _example(routes: Iterable[Route]) -> str:
    """A line of `may` that the ERP's own document has."""
    route = next(iter(sorted(routes, key=lambda one: one.method != "GET")), None)
    return f"{route.object}: {route.verb}" if route else "order: read"


def _refuse_unfit(home: Home) -> None:
    home.socket("guard-control")  # the longest of them: raises where its path would be too long
    if home.settings.exists() or (home.root.exists() and any(home.root.iterdir())):
        raise OperatorFault("home-not-empty", f"{home.root} is not empty", hint="name an empty folder with --home")


def _refuse_options(settings: Mapping[str, Any], policy: str) -> None:
    """What is wrong with the policy that was made of the options is told of the options: nobody wrote it."""
    wrong = dict(one.split(": ", 1) for one in mistakes(settings))
    for one in parse(policy, "").problems if policy else ():
        key, _, message = one.message.partition(": ")
        option = {"at": "host", "systems": "system"}.get(key, key)
        wrong.setdefault(option, message + (f"; write {one.hint}" if one.hint else ""))
    if wrong:
        told = "\n".join(f"  --{option}: {message}" for option, message in wrong.items())
        raise OperatorFault("options-invalid", f"these options are wrong:\n{told}", hint="see `ostiary init --help`")


def _fill(home: Home, settings: str, policy: Document) -> tuple[Plan, Proof]:
    """Files, keys and the first revision, in the audit log from the start."""
    write_atomically(home.settings, settings.encode())
    write_atomically(home.policy, policy.text.encode())
    plan, proof = prove_document(policy, home, load_settings(home.settings))
    database.load_sealer(home.keys / "master.key", make=True)
    with opened(home) as on:
        now = on.clock.now()
        act = Act(actor="ostiary", document=policy, reason="first start", proof=to_builtins(proof))
        with on.store.begin() as connection:
            keys.ensure(connection, on.sealer, now)
            record(Change(connection, act.actor, now), act, plan)
        sign_head(on.store, home, now)
    keep_plan(home, plan)
    put_in_force(home, plan.revision)
    return plan, proof


def ready(installation: Installation) -> Path:
    """Everything that the children start with is there; returns the Envoy to run."""
    found = daemon.find(installation.settings.envoy)
    authority.ensure(installation.home, installation.settings.host)
    with installation.store.begin() as connection:
        keys.ensure(connection, installation.sealer, installation.clock.now())
        opens(connection, installation.sealer)
    started = f"{secrets.token_hex(3)} {zone_of(plan_in_force(installation.home))}"
    write_atomically(installation.home.run / START_FILE, started.encode())
    edge = edge_of(installation)
    fit(installation)
    gate = daemon.Gate(found, edge)
    gate.prepare()
    Reconciler(installation, gate, edge).prepare()
    return found


def reseal(home: Home, file: Path) -> dict[str, Any]:
    """Seals every secret under the master key in `file`, made where there is none: all of them, or the old key holds."""
    with alone(home), opened(home) as on:
        key = database.load_sealer(file, make=True)
        with on.store.begin() as connection:
            opens(connection, on.sealer)
            count = database.reseal(connection, on.sealer, key)
            change = Change(connection, f"uid:{os.getuid()}", on.clock.now())
            change.note("key.reseal", "master", after={"secrets": count})
        sign_head(on.store, home, on.clock.now())
    return {"file": str(file), "secrets": count}


def edge_of(installation: Installation) -> Edge:
    """Where this installation listens; the same for every process of one start."""
    home, settings = installation.home, installation.settings
    start, zone = (home.run / START_FILE).read_text("ascii").split()
    return Edge(
        **{name: getattr(settings, name) for name in AS_SET},
        certificate=home.keys / "gate.crt",
        key=home.keys / "gate.key",
        client_ca=home.keys / "ca.crt" if settings.ask_client_certificate else None,
        start=start,
        zone=zone,
        home=home,
        geoip=Path(settings.geoip_database) if settings.geoip_database else None,
        upstream_authorities=Path(settings.upstream_authorities or SYSTEM_AUTHORITIES),
        connections=min(CONNECTIONS_MAX, resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 2),
    )


def _starter(  # noqa: PLR0917  what the options say
    system: str, erp: str, upstream: str, database: str, document: str, host: str, base: str, example: str
) -> str:
    needs = f"spec: {json.dumps(document)}" if document else f"database: {json.dumps(database)}"
    needs += f", hand-over: {KINDS[Kind(erp)].ways[0]}"
    at, name = json.dumps(host + base), json.dumps(host.partition(".")[0])
    upstream = json.dumps(upstream.rstrip("/") + base if base else upstream)
    told = {"name": name, "system": json.dumps(system), "kind": erp, "host": at, "upstream": upstream}
    return STARTER.substitute(told, needs=needs, example=example)


def _toml(settings: Mapping[str, Any]) -> str:
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in settings.items() if value != ""]
    return f"# Where this installation listens. Every key is optional: see docs/guide/running.md\n{''.join(lines)}"
