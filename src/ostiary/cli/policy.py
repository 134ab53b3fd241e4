"""`ostiary policy`: from text to the plan in force, and what it means."""

import difflib
import hashlib
import json
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click

from ostiary.cli.terminal import ask, at_home, done, home, look, noted, show, table, waits, with_names
from ostiary.foundation.errors import OperatorFault, counted, harmless
from ostiary.foundation.home import load_settings, write_together
from ostiary.policy.document import Document

WAY: Final = ("role", "permission", "when", "line")


def check(document: Document) -> None:
    """Every problem at once; also `never`, `apart` and the embedded tests. Changes nothing."""
    from ostiary.control.documents import prove_document

    plan, proof = prove_document(document, home(), load_settings(home().settings))
    warnings = proof.warnings
    told = {"revision": plan.revision, "grants": len(plan.grants), "warnings": list(warnings)}
    size = f"{counted(len(plan.roles), 'role')}, {counted(len(plan.grants), 'grant')}"
    show(told, f"{document.name} is well: {size}{noted(warnings)}")


def packs(name: str = "") -> None:
    """The packs that come with Ostiary, or what the one of that NAME says."""
    from ostiary.policy.parse import packs

    if name and name not in packs():
        raise OperatorFault("no-pack", f"there is no pack {name!r}", hint=f"one of: {', '.join(packs())}")
    about = {one: text.replace("\n# ", " ").removeprefix("# ").partition(":")[0] for one, text in packs().items()}
    listed = "\n".join(f"{one:21} {first}" for one, first in about.items())
    show({"packs": list(packs()), "text": packs()[name] if name else ""}, packs()[name] if name else listed)


def fmt(file: Path, only_check: bool) -> None:
    """Writes the policy in one form, comments kept."""
    from ostiary.policy.fmt import formatted

    document = _read(file)
    before = {document.name: document.text, **document.files}
    after = formatted(document.text, document.name, dict(document.files))
    changed = {name: one for name, one in after.items() if one != before[name]}
    if only_check and changed:
        lines = [f"{', '.join(changed)} is not in its one form:"]
        for name, one in changed.items():
            both = before[name].splitlines(), one.splitlines()
            lines += [f"  {line}" for line in difflib.unified_diff(*both, name, "formatted", lineterm="")]
        raise OperatorFault("not-formatted", "\n".join(lines), hint="run `ostiary policy fmt`")
    write_together({(file.parent / name).resolve(): one.encode() for name, one in changed.items()})
    show({"changed": bool(changed)}, "formatted" if changed else "nothing to change")


def compared(told: dict[str, Any], **_: Any) -> str:
    """What another policy would change, and what is to be said of it."""
    return changed(told["changes"]) + noted(told["warnings"])


def tested(told: dict[str, Any], *, document: Document) -> str:
    """The tests that stand in the policy, which hold."""
    size = f"{counted(told['tests'], 'test')}, all as expected" if told["tests"] else f"{document.name} holds no tests"
    return size + noted(told["warnings"])


def applied(told: dict[str, Any], *, dry_run: bool = False, **_: Any) -> str:
    """What changes with it, and that it is in force, would be, or waits for others."""
    ends = f"revision {told['revision']} {'would be' if dry_run else 'is'} in force at gate and guard"
    if number := told["proposal"]:
        ends = f"proposal {number} {waits(told, number, 'policy approve')}"
    return f"{changed(told['changes'])}{at_home(noted(told['warnings']))}\n{ends}"


def show_revision(number: str, name: str = "", out: Path | None = None) -> None:
    """The document of a revision as it was, or of a proposal; in its comments who, why, and what was proved.

    Without NUMBER the one in force.
    """
    from ostiary.control import revisions

    told = look(home(), "policy.show", revisions.show_revision, which=number)
    if out:
        written = revisions.write_policy(out, home().policy.name, told["text"], told["files"])
        show({"files": written}, "\n".join(written))
        return
    about = {name: value for name, value in told.items() if name not in {"text", "files", "changes", "proof"}}
    lines = [f"{name} {value}" for name, value in {**about, **told.get("proof", {})}.items()]
    lines += [_change(change, colour=False) for change in told.get("changes", ())]
    head = with_names("\n".join(f"# {' '.join(line.split())}" for line in lines))
    whole = f"{head}\n\n{told['text'].rstrip()}{_files(told)}"
    if name and name not in told["files"]:
        hint = f"one of: {', '.join(told['files'])}"
        raise OperatorFault("no-file", f"there is no file {name} in it", hint=hint)
    whole = told["files"][name] if name else whole
    show(told, "\n".join(harmless(line.expandtabs()) for line in whole.split("\n")))


def _files(told: dict[str, Any]) -> str:
    """What the document includes, in full; of an OpenAPI document what tells it from another one."""
    from ostiary.policy.parse import among, gathered

    included, shown = gathered("", told["text"], among(told["files"])).texts, ""
    for name, text in told["files"].items():
        about = f"{len(data := text.encode()):,} bytes, sha256 {hashlib.sha256(data).hexdigest()}"
        more = f"{about}; --file {name} shows it"
        shown += f"\n\n# file {name}\n{text.rstrip()}" if name in included else f"\n\n# file {name}: {more}"
    return shown


def proved(told: dict[str, Any], *, document: Document, since: int | None = None, **_: Any) -> str:
    """What holds, and what is to be known of it besides, each with a request."""
    lines = [f"{document.name} is proved: never, apart and its tests hold"]
    lines += [f"since revision {since}:", changed(told["changes"])] if since else []
    for question, findings in told["answers"].items():
        lines.append(f"{question}: {len(findings) or 'none'}")
        for one in findings:
            lines.append(f"  {one['message']}")
            lines += [f"    because {at['file']}:{at['line']}: {at['text']}" for at in one["where"]]
            lines += [f"    for example {_request(request)}" for request in one["requests"]]
    return "\n".join(lines) + noted(told["warnings"])


def _request(told: dict[str, Any]) -> str:
    answer = told["reason"] if told["reason"] == "allowed" else f"refused ({told['reason']})"
    return f"{told['when']}: {', '.join(told['roles'])} doing {told['operation']} is {answer}"


def draft(source: str, since: datetime | None = None) -> None:
    """Proposes roles to review, and changes nothing.

    From what was allowed (`events`), from what an ERP's own groups may (the name of a tryton system), or from an
    OpenAPI or OData $metadata document (its file, or the name of a system that has one).
    """
    from ostiary.control.draft import draft as drafted

    told = drafted(home(), source, _moment(since), _tick)
    show(told, told["text"].rstrip("\n") + noted(told["warnings"]).replace("\n", "\n# "))


def replay(document: Document, since: datetime | None = None) -> None:
    """What this policy would have decided otherwise: for whom, how often, with a decision to `explain`."""
    from ostiary.control.evidence import replay_document

    told = replay_document(document, home(), since=_moment(since), tick=_tick)
    show(told, _replayed(told))


def shadow(*, end: bool, file: Path | None = None) -> None:
    """Has gate and guard ask FILE too, which decides nothing; without FILE, what it would have decided otherwise."""
    from ostiary.control.evidence import shadowed

    if end:
        done("policy.shadow-end", "no draft is asked any more")
    elif file is None:
        told = shadowed(home())
        show(told, f"{_replayed(told, 'judged by both')} since {told['since']}")
    else:
        begun = ask(home(), "policy.shadow", document=_read(file))
        so = f"{file.name} is asked beside the policy in force and decides nothing; `policy shadow` tells what it would"
        show(begun, so + noted(f"no decision will tell of: {one}" for one in begun["unseen"]))


def schema() -> None:
    """The JSON Schema of the document, for editors."""
    from ostiary.policy.keys import json_schema

    value = json_schema()
    show(value, json.dumps(value, indent=2))


def _replayed(told: dict[str, Any], how: str = "replayed") -> str:
    columns = ("times", "principal", "operation", "was", "would", "last", "decision")
    lines = [table(told["changes"], columns, empty="no decision would change")]
    lines += [f"{told['more']} more, of more kinds than are told"] if told["more"] else []
    lines += [f"{number} were {reason}, which no policy decides" for reason, number in sorted(told["left"].items())]
    return "\n".join([*lines, f"{counted(told['decisions'], 'decision')} {how}"])


def _moment(since: datetime | None) -> datetime:
    return since or datetime.now(UTC) - timedelta(days=30)


def _tick(number: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{number:,} decisions", err=True, nl=False)


def _read(file: Path) -> Document:
    from ostiary.control.documents import read_policy

    return read_policy(file)


def changed(changes: list[dict[str, Any]], **_: Any) -> str:
    """A line for each change, those by packs together."""
    if not changes:
        return "no difference in what anybody may do"
    colour = sys.stdout.isatty()
    by = [("" if change["widens"] else change["where"].rpartition(":")[0], change) for change in changes]
    rules = dict.fromkeys((file, change["where"]) for file, change in by)  # one of several forms is one line
    # A file has .yaml at its end, a pack has not.
    packed = Counter(file for file, _ in rules if "/" in file and "." not in file)
    lines = [_change(change, colour=colour) for file, change in by if file not in packed]
    lines += [f"- narrows {counted(n, 'rule')} of the pack {pack}, each with --json" for pack, n in packed.items()]
    return "\n".join(lines)


def _change(change: dict[str, Any], *, colour: bool) -> str:
    widens = change["widens"]
    line = f"{'+ widens ' if widens else '- narrows'} {change['text']}"
    return click.style(line, fg="yellow" if widens else "green") if colour else line


def ways(rows: list[dict[str, Any]], *, operation: str = "", **_: Any) -> str:
    """To an operation, with who holds each role; or all that somebody may do. And where that does not hold yet."""
    from ostiary.control.questions import caveats

    columns, empty = ((*WAY, "holders"), "Nobody can.") if operation else (WAY, "Nothing.")
    return table(map(_way, rows), columns, empty=empty) + noted(caveats(home(), operation))


def _way(way: dict[str, Any]) -> dict[str, Any]:
    until = f", until {way['until']}" if way.get("until") else ""
    return {**way, "when": f"{way['words']}{until}", "line": f"{way['where']['file']}:{way['where']['line']}"}


def report(out: Path) -> None:
    """Writes who may do what, by role, object and principal, as pages and as tables (CSV), of this moment."""
    from ostiary.control.questions import caveats, write

    files = write(home(), out)
    show({"files": files}, "\n".join(files) + noted(caveats(home())))
