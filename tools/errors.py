"""The reference of errors: every example of docs/reference/errors.toml, given to parser and prover, with what they say."""

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from unittest.mock import patch

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ostiary.control.documents import prove_document, read_policy
from ostiary.erp.catalogue import Catalogue, Field
from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.home import Home, Settings
from ostiary.prove import situation
from ostiary.prove.situation import Situation

EXAMPLES: Final = Path(__file__).parents[1] / "docs" / "reference" / "errors.toml"
NEAR: Final = Situation(datetime(2026, 3, 2, 9, tzinfo=UTC))
# What an example leaves out stands behind it, so that lines are counted as they are shown.
REST: Final = {
    "policy": "policy: acme",
    "systems": 'systems: {erp: {kind: tryton, at: erp.example.com, upstream: "http://127.0.0.1:8000", database: acme}}',
    "departments": "departments: {sales: {}, finance: {}, ledger: {of: finance}}",
}
NOTE: Final = "note: "
LOWERED: Final = ("TOGETHER_MAX", "LEFT_MAX")  # of the prover
LONG: Final = "…"  # stands for `long` letters
OFFERED: Final = Catalogue(
    models={
        "party.party": {"id": Field("integer"), "name": Field("char"), "addresses": Field("one2many", "party.address")},
        "sale.sale": {"id": Field("integer"), "party": Field("many2one", "party.party"), "state": Field("selection")},
        "account.payment": {"party": Field("many2one", "party.party"), "amount": Field("numeric")},
        "account.move": {"number": Field("char")},
    },
    methods={
        f"model.{name}": frozenset({"read", "search_read", "write", "create", "delete", "approve", "post"})
        for name in ("party.party", "sale.sale", "account.payment", "account.move")
    },
)
INTRODUCTION: Final = f"""\
# Every error of a policy, with an example

What `ostiary policy check`, `diff` and `apply` say of a policy that is wrong, and what `apply` then refuses: find the
words of your own message here. Each example was given to parser and prover, and what stands below it is their answer.
A place is `file:line:column`. All problems of a policy are told at once; nothing is changed while there is one.

An example shows only what matters. What it leaves out stands behind it:

```yaml
{chr(10).join(REST[name] for name in ("systems", "departments"))}
```

How a policy is written: [the guide](../guide/policy.md); each key: [the reference](policy.md).
"""


class Error(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One example; `several`: it can't show its error alone. `whole`: nothing is left out, `long`: letters for `…`.

    `files`, `links`: what lies beside the policy, and its encoding; `held`: who has which roles.
    `asked`: the file that is checked. `absent`: the OpenAPI document is not there. `lone`: what belongs to the policy does not come with it. `lowered`: the prover's limits, so that little is too much.
    """

    policy: str
    why: str = ""
    several: bool = False
    lone: bool = False
    absent: bool = False
    lowered: bool = False
    whole: bool = False
    long: int = 0
    encoding: str = "utf-8"
    asked: str = "policy.yaml"
    files: Mapping[str, str] = {}
    links: Mapping[str, str] = {}
    held: Mapping[str, frozenset[str]] = {}

    @property
    def text(self) -> str:
        rest = (
            ""
            if self.whole
            else "".join(f"{line}\n" for name, line in REST.items() if f"\n{name}:" not in f"\n{self.policy}")
        )
        return self._full(self.policy + rest)

    def _full(self, text: str) -> str:
        return text.replace(LONG, "a" * self.long) if self.long else text

    def put(self, home: Home) -> None:
        """Writes policy and files as an administrator would have them."""
        described = {} if self.absent else {"shop.yaml": "openapi: 3.1.0\npaths: {}\n"}
        for name, text in {**described, "policy.yaml": self.text, **self.files}.items():
            path = home.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._full(text).encode(self.encoding))
        for name, target in self.links.items():
            (home.root / name).symlink_to(target)


class Group(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    title: str
    error: tuple[Error, ...]


def groups() -> tuple[Group, ...]:
    """The examples, by what they are about."""
    return msgspec.convert(tomllib.loads(EXAMPLES.read_text("utf-8"))["group"], tuple[Group, ...])


def said(error: Error) -> str:
    """What parser and prover say to the example."""
    with TemporaryDirectory() as folder, ExitStack() as limits:
        for name in LOWERED if error.lowered else ():
            limits.enter_context(patch.object(situation, name, 1))
        home = Home(root=Path(folder).resolve())
        error.put(home)
        home.catalogue("erp").parent.mkdir()
        home.catalogue("erp").write_bytes(msgspec.json.encode(OFFERED))
        try:
            document = read_policy(home.root / error.asked)
            document = replace(document, files={}) if error.lone else document
            _, proof = prove_document(document, home, Settings(), error.held, NEAR)
            answer = "\n".join(f"{NOTE}{one}" for one in proof.warnings)
        except OperatorFault as fault:
            answer = str(fault)
        return answer.replace(f"{home.root}/", "/ostiary/")


def errors_page() -> str:
    """Every example with its answer, by what it is about."""
    out = [INTRODUCTION, *(f"- [{group.title}](#{_anchor(group.title)})" for group in groups()), ""]
    for group in groups():
        out += [f"## {group.title}", ""]
        for error in group.error:
            out += _entry(error)
    return "\n".join(out)


def _anchor(title: str) -> str:
    return "".join(letter for letter in title.lower().replace(" ", "-") if letter.isalnum() or letter == "-")


def _entry(error: Error) -> Iterator[str]:
    yield from ([error.why, ""] if error.why else [])
    yield from ("```yaml", error.policy.rstrip("\n") or "# nothing", *(_beside(error)), "```", "")
    yield from ("```text", "\n".join(shown(said(error))), "```", "")


def _beside(error: Error) -> Iterator[str]:
    if error.lowered:
        yield "# the limits of the prover are lowered here; two contexts alone are never too many"
    if error.long:
        yield f"# {LONG} stands for {error.long:,} letters"
    for name, text in error.files.items():
        checked = ", and it is checked" if name == error.asked else ""
        yield from (f"# the file {name}{checked}:", *text.splitlines())
    yield from (f"# {name} leads to {target}" for name, target in error.links.items())
    yield from (f"# {principal} has the roles {', '.join(sorted(roles))}" for principal, roles in error.held.items())


def shown(answer: str) -> list[str]:
    """The lines of the answer, without the first and the last where these only count what stands between."""
    first, *rest = answer.splitlines()
    return [line.removeprefix("  ") for line in rest[:-1]] if ": [" in first and len(rest) > 1 else [first, *rest]
