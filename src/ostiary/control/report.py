"""Who may do what, by role, by object and by principal: pages without script, and tables that no spreadsheet runs."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, StrictUndefined, Template
from msgspec.structs import replace

from ostiary.control.documents import observed
from ostiary.control.holders import for_a_time
from ostiary.control.installation import opened
from ostiary.event.record import stamp
from ostiary.foundation.files import write_atomically
from ostiary.foundation.home import Home
from ostiary.identity import roster
from ostiary.plan.model import Plan
from ostiary.prove.questions import Way, what_can
from ostiary.store.plans import plan_in_force

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet would run (CWE-1236)
COLUMNS: Final = ("name", "role", "permission", "when", "rule", "line")
Brief = tuple[str, str, str]  # principal, role, and until when it is held in an emergency
Part = tuple[str, str, list[Way]]  # what it is about, more about it, and the ways


def write(home: Home, out: Path) -> list[str]:
    """`roles`, `objects` and `principals`, each as .html and .csv, of the policy in force and those who hold it now."""
    plan = plan_in_force(home)
    with opened(home) as on, on.store.read() as connection:
        everybody, now = [*roster.users(connection), *roster.clients(connection)], on.clock.now()
        begun = for_a_time(connection, now)
    caveats = list(observed(plan.systems, now))
    facts = {"policy": plan.policy, "revision": plan.revision, "at": stamp(now), "caveats": caveats}
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, parts in _views(plan, everybody, begun).items():
        html = _page().render(view=name, parts=parts, **facts)
        for kind, text in (("html", html), ("csv", _table(parts, caveats))):
            write_atomically(out / f"{name}.{kind}", text.encode())
            written.append(str(out / f"{name}.{kind}"))
    return written


def _page() -> Template:
    text = resources.files("ostiary.control").joinpath("report.html").read_text("utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(text)


def _views(plan: Plan, everybody: Iterable[dict[str, Any]], begun: Sequence[Brief]) -> dict[str, list[Part]]:
    roles = [(role.name, f"level {role.level}", list(what_can(plan, [role.name]))) for role in plan.roles]
    by_role = {name: ways for name, _, ways in roles}
    objects = defaultdict[str, list[Way]](list)
    for way in (way for ways in by_role.values() for way in ways):
        objects[way.permission.rpartition(":")[0]].append(way)
    return {
        "roles": roles,
        "objects": [(name, "", ways) for name, ways in sorted(objects.items())],
        "principals": [_principal(one, by_role, begun) for one in everybody],
    }


def _principal(one: Mapping[str, Any], by_role: Mapping[str, list[Way]], begun: Iterable[Brief]) -> Part:
    """Whose hand it is, what he holds, for how long, and whether he is let in."""
    held = [(role, "") for role in one["roles"]]
    held += [(role, f", in an emergency until {end}") for who, role, end in begun if who == one["id"]]
    names, shut = ", ".join(map("".join, held)) or "no role", "" if one["active"] else ", disabled"
    ways = [replace(way, words=way.words + brief) for role, brief in held for way in by_role.get(role, ())]
    return one["id"], f"{one['person']}, holds {names}{shut}", ways


def _table(parts: Iterable[Part], caveats: Iterable[str] = ()) -> str:
    written = io.StringIO()
    csv.writer(written).writerows([COLUMNS, *([one, "", "", "", "", ""] for one in caveats), *_rows(parts)])
    return written.getvalue()


def _rows(parts: Iterable[Part]) -> Iterator[list[str]]:
    for name, _, ways in parts:
        for way in ways:
            cells = (name, way.role, way.permission, way.words, way.rule, str(way.where))
            yield [f"'{cell}" if cell.startswith(FORMULA) else cell for cell in cells]
