"""`ostiary policy`: from text to the plan in force."""

import difflib
import hashlib
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from msgspec import to_builtins

from ostiary.cli.acts import with_acts
from ostiary.cli.admin import ask, done, look, waits
from ostiary.cli.questions import report, what_can, who_can
from ostiary.cli.shape import LIMIT, MOMENT, Group, at_home, home, noted, show, show_table, table, with_names
from ostiary.foundation.errors import OperatorFault, counted, harmless
from ostiary.foundation.files import write_together
from ostiary.policy.document import Document

SINCE = click.option("--since", type=MOMENT, help="Not before this; else the last 30 days.")
PATH = click.Path(path_type=Path)
FILE = click.argument("file", type=PATH, required=False, callback=lambda _, __, file: file or home().policy)
NUMBER = click.IntRange(min=1)
WHY = click.option("--reason", required=True, help="Why; kept with it.")


@click.group(cls=Group)
def policy() -> None:
    """Check, format, compare, prove and apply the policy; ask what it means; its revisions."""


with_acts(policy)


for _command in (who_can, what_can, report):
    policy.add_command(_command)


@policy.command("check")
@FILE
def check(file: Path) -> None:
    """Every problem at once; also `never`, `apart` and the embedded tests. Changes nothing."""
    from ostiary.control.documents import prove_document
    from ostiary.foundation.settings import load_settings

    plan, proof = prove_document(_read(file), home(), load_settings(home().settings))
    warnings = proof.warnings
    told = {"revision": plan.revision, "grants": len(plan.grants), "warnings": list(warnings)}
    size = f"{counted(len(plan.roles), 'role')}, {counted(len(plan.grants), 'grant')}"
    show(told, f"{file.name} is well: {size}{noted(warnings)}")


@policy.command("packs", about_home=False)
@click.argument("name", required=False)
def packs(name: str | None) -> None:
    """The packs that come with Ostiary, or what the one of that NAME says."""
    from ostiary.policy.parse import packs

    if name and name not in packs():
        raise OperatorFault("no-pack", f"there is no pack {name!r}", hint=f"one of: {', '.join(packs())}")
    about = {one: text.replace("\n# ", " ").removeprefix("# ").partition(":")[0] for one, text in packs().items()}
    listed = "\n".join(f"{one:21} {first}" for one, first in about.items())
    show({"packs": list(packs()), "text": packs()[name] if name else ""}, packs()[name] if name else listed)


@policy.command("fmt")
@FILE
@click.option("--check", "only_check", is_flag=True, help="Change nothing; exit 2 when it would change.")
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


@policy.command("diff")
@FILE
def diff(file: Path) -> None:
    """What this policy would widen and narrow, against the one in force."""
    from ostiary.control.documents import compare_document

    told = compare_document(_read(file), home())
    show(told, _changes(told["changes"]) + noted(told["warnings"]))


@policy.command("test")
@FILE
def test(file: Path) -> None:
    """Runs the tests that stand in the policy."""
    from ostiary.control.documents import test_document

    told = test_document(_read(file), home())
    size = f"{counted(told['tests'], 'test')}, all as expected" if told["tests"] else f"{file.name} holds no tests"
    show(told, size + noted(told["warnings"]))


@policy.command("apply")
@FILE
@click.option("--reason", default="", help="Kept in the audit log.")
@click.option("--dry-run", is_flag=True, help="All the checks, no change.")
def apply(file: Path, reason: str, dry_run: bool) -> None:
    """Puts the policy in force; returns when gate and guard both enforce it."""
    told = ask(home(), "policy.apply", document=_whole(file), reason=reason, dry_run=dry_run)
    _show_applied(told, "would be" if dry_run else "is")


@policy.command("propose")
@FILE
@WHY
def propose(file: Path, reason: str) -> None:
    """Has all the checks made, and waits for somebody else's yes."""
    _show_applied(ask(home(), "policy.propose", document=_whole(file), reason=reason))


@policy.command("approve")
@click.argument("proposal")
def approve(proposal: str) -> None:
    """Says yes to what somebody else proposed; with the last yes needed it comes into force."""
    _show_applied(ask(home(), "policy.approve", proposal=proposal))


@policy.command("list")
@LIMIT
def list_revisions(limit: int) -> None:
    """What waits for a second person, and every revision that was applied, the newest first."""
    from ostiary.control import revisions

    rows = look(home(), "policy.list", revisions.list_revisions, limit=limit)
    show_table(rows, ("number", "state", "revision", "who", "when", "approvals", "why"), empty="No revision.")


@policy.command("show")
@click.argument("number", default="")
@click.option("--file", "name", help="Only this file of it, such as its OpenAPI document.")
@click.option("--out", type=click.Path(path_type=Path), help="Write it, and the files it needs, into this new folder.")
def show_revision(number: str, name: str | None, out: Path | None) -> None:
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


@policy.command("compare")
@click.argument("first")
@click.argument("second")
def compare(first: str, second: str) -> None:
    """What the second of two revisions widens and narrows, by meaning: each by number, revision or proposal."""
    from ostiary.control import revisions

    changes = look(home(), "policy.compare", revisions.compare, first=first, second=second)
    show(changes, _changes(changes))


@policy.command("restore")
@click.argument("number", type=NUMBER)
@WHY
def restore(number: int, reason: str) -> None:
    """Applies the document of an earlier revision anew; proposes it where others must approve."""
    _show_applied(ask(home(), "policy.restore", number=number, reason=reason))


def _show_applied(told: dict[str, Any], verb: str = "is") -> None:
    ends = f"revision {told['revision']} {verb} in force at gate and guard"
    if number := told["proposal"]:
        ends = f"proposal {number} {waits(told, number, 'policy approve')}"
    show(told, f"{_changes(told['changes'])}{at_home(noted(told['warnings']))}\n{ends}")


@policy.command("prove")
@FILE
@click.option("--days", type=click.IntRange(1, 3660), default=90, show_default=True, help="Of use to look at.")
@click.option("--since", type=NUMBER, help="Against this revision: all that changed, and what proof of it.")
def prove(file: Path, days: int, since: int | None) -> None:
    """Proves `never`, `apart` and the tests; tells new access, idle lines and what was not used, each with a request."""
    from ostiary.control import questions

    told = questions.prove(_read(file), home(), days, since)
    lines = [f"{file.name} is proved: never, apart and its tests hold"]
    lines += [f"since revision {since}:", _changes(told["changes"])] if since else []
    for question, findings in told["answers"].items():
        lines.append(f"{question}: {len(findings) or 'none'}")
        for one in findings:
            lines.append(f"  {one['message']}")
            lines += [f"    because {at['file']}:{at['line']}: {at['text']}" for at in one["where"]]
            lines += [f"    for example {_request(request)}" for request in one["requests"]]
    show(told, "\n".join(lines) + noted(told["warnings"]))


def _request(told: dict[str, Any]) -> str:
    answer = told["reason"] if told["reason"] == "allowed" else f"refused ({told['reason']})"
    return f"{told['when']}: {', '.join(told['roles'])} doing {told['operation']} is {answer}"


@policy.command("draft")
@click.option("--from", "source", required=True, metavar="SOURCE", help="`events`, a system's name, or a file.")
@SINCE
def draft(source: str, since: datetime | None) -> None:
    """Proposes roles to review, and changes nothing.

    From what was allowed (`events`), from what an ERP's own groups may (the name of a tryton system), or from an
    OpenAPI or OData $metadata document (its file, or the name of a system that has one).
    """
    from ostiary.control.draft import draft as drafted

    told = drafted(home(), source, _moment(since), _tick)
    show(told, told["text"].rstrip("\n") + noted(told["warnings"]).replace("\n", "\n# "))


@policy.command("replay")
@FILE
@SINCE
def replay(file: Path, since: datetime | None) -> None:
    """What this policy would have decided otherwise: for whom, how often, with a decision to `explain`."""
    from ostiary.control.recorded import replay_document

    told = replay_document(_read(file), home(), since=_moment(since), tick=_tick)
    show(told, _replayed(told))


@policy.command("shadow")
@click.argument("file", type=PATH, required=False)
@click.option("--end", is_flag=True, help="The draft is asked no longer.")
def shadow(file: Path | None, *, end: bool) -> None:
    """Has gate and guard ask FILE too, which decides nothing; without FILE, what it would have decided otherwise."""
    from ostiary.control.recorded import shadowed

    if end:
        done("policy.shadow-end", "no draft is asked any more")
    elif file is None:
        told = shadowed(home())
        show(told, f"{_replayed(told, 'judged by both')} since {told['since']}")
    else:
        begun = ask(home(), "policy.shadow", document=_whole(file))
        so = f"{file.name} is asked beside the policy in force and decides nothing; `policy shadow` tells what it would"
        show(begun, so + noted(f"no decision will tell of: {one}" for one in begun["unseen"]))


@policy.command("schema")
def schema() -> None:
    """The JSON Schema of the document, for editors."""
    from ostiary.policy.keys import json_schema

    value = json_schema()
    import json

    show(value, json.dumps(value, indent=2))


def _replayed(told: dict[str, Any], how: str = "replayed") -> str:
    columns = ("times", "principal", "operation", "was", "would", "last", "decision")
    lines = [table(told["changes"], columns, empty="no decision would change")]
    lines += [f"{told['more']} more, of more kinds than are told"] if told["more"] else []
    lines += [f"{number} were {reason}, which no policy decides" for reason, number in sorted(told["left"].items())]
    return "\n".join([*lines, f"{counted(told['decisions'], 'decision')} {how}"])


def _moment(since: datetime | None) -> datetime:
    return since.astimezone() if since else datetime.now(UTC) - timedelta(days=30)


def _tick(number: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{number:,} decisions", err=True, nl=False)


def _read(file: Path) -> Document:
    from ostiary.control.documents import read_policy

    return read_policy(file)


def _whole(file: Path) -> dict[str, Any]:
    """The policy as the running installation takes it, which reads no file itself."""
    return dict(to_builtins(_read(file)))


def _changes(changes: list[dict[str, Any]]) -> str:
    if not changes:
        return "no difference in what anybody may do"
    colour = sys.stdout.isatty()
    by = [("" if change["widens"] else change["where"].rpartition(":")[0], change) for change in changes]
    packed = Counter(
        file for file, _ in by if "/" in file and "." not in file
    )  # a file has .yaml at its end, a pack has not
    lines = [_change(change, colour=colour) for file, change in by if file not in packed]
    lines += [f"- narrows {counted(n, 'rule')} of the pack {pack}, each with --json" for pack, n in packed.items()]
    return "\n".join(lines)


def _change(change: dict[str, Any], *, colour: bool) -> str:
    widens = change["widens"]
    line = f"{'+ widens ' if widens else '- narrows'} {change['text']}"
    return click.style(line, fg="yellow" if widens else "green") if colour else line
