"""A policy on a running installation: what it denies, what is said of a change, and what is kept of every revision."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from ostiary.control.installation import open_installation
from ostiary.control.revisions import texts_of
from ostiary.foundation.errors import OperatorFault, OstiaryError
from ostiary.store.plans import revision_in_force
from running import RUNNING, until

pytestmark = RUNNING
CLERK = 'may: ["order: read, write", "stock: read"]'
ELSEWHERE = '  elsewhere: {level: user, of: sales, may: ["invoice: read"], when: never-open}\n'
NEVER_OPEN = "never-open: {networks: [198.51.100.0/24]}"
INVOICES = "/shop/invoices"


def written(site, *changes):
    path = site.root / "draft.yaml"
    path.write_text(site.policy(*changes))
    return str(path)


def told(site, command, *changes, options=()):
    done = site.ostiary("policy", command, written(site, *changes), *options)
    assert done.code == 0, done.err
    return done.out


@pytest.mark.parametrize("command, options", [("check", ()), ("diff", ()), ("apply", ("--dry-run",))])
def test_a_name_that_no_system_knows_is_noted_with_its_place_and_what_was_meant(site, command, options):
    out = told(site, command, (CLERK, 'may: ["order: read, write", "stok: read"]'), options=options)
    line, text = next((n, text) for n, text in enumerate(site.policy().splitlines(), 1) if CLERK in text)
    column = text.index('"stock') + 1
    assert f"note: draft.yaml:{line}:{column}: shop knows no object stok; did you mean stock?" in out


def test_the_difference_says_who_holds_a_role_that_goes(site):
    site.client("a-holder", "elsewhere")
    out = told(site, "diff", (ELSEWHERE, ""))
    (line,) = [line for line in out.splitlines() if "role elsewhere is gone, still held by " in line]
    assert "client:a-holder" in line
    assert line.startswith("- narrows")


def test_the_difference_says_what_a_changed_context_means_and_for_whom(site):
    out = told(site, "diff", ("198.51.100.0/24", "198.51.100.0/23"))
    line = next(n for n, text in enumerate(site.policy().splitlines(), 1) if NEVER_OPEN in text)
    changed = "context never-open is wider for elsewhere; it holds now at any time, from 198.51.101.0"
    assert out == f"+ widens  {changed} (draft.yaml:{line})\n"


@pytest.mark.standard("B5")
def test_what_no_role_grants_is_denied_and_what_grants_everything_is_reported(site):
    token = site.token("visitor")
    assert site.once("GET", "/shop/stock", token=token).status == 200
    for method, path in [("GET", "/shop/orders"), ("DELETE", "/shop/orders/1"), ("GET", INVOICES)]:
        assert site.once(method, path, token=token).reason == "role"
    chief = ELSEWHERE + '  chief: {level: system, may: "*: read"}\n'
    assert "role chief may read every object of shop" in told(site, "apply", (ELSEWHERE, chief))


@pytest.mark.standard("B2")
def test_each_of_the_four_levels_holds_what_it_may_and_no_more(site):
    roles = """\
  chief: {level: system, may: "*: read"}
  manager: {level: department, of: sales, includes: clerk, may: "report: execute run"}
  partner: {level: partner, may: "stock: read"}
"""
    site.apply(site.policy((ELSEWHERE, ELSEWHERE + roles)))
    asked = [("GET", INVOICES), ("POST", "/shop/reports"), ("GET", "/shop/orders"), ("GET", "/shop/stock")]
    tokens = {role: site.token(role) for role in ("chief", "manager", "clerk", "partner")}
    passed = {role: [site.once(*one, token=token).status == 200 for one in asked] for role, token in tokens.items()}
    assert passed == {
        "chief": [True, False, True, True],
        "manager": [False, True, True, True],
        "clerk": [False, False, True, True],
        "partner": [False, False, False, True],
    }
    for level in ("level: partner", "level: department, of: sales"):
        with pytest.raises(OperatorFault, match="only a role of level system may hold every object"):
            site.apply(site.policy((ELSEWHERE, f'{ELSEWHERE}  more: {{{level}, may: "*: read"}}\n')))


def hours(first, last):
    """Around this moment, in hours from it."""
    now = datetime.now(UTC)
    start, end = (f"{now + timedelta(hours=n):%H:%M}" for n in (first, last))
    return f'{{hours: "{start}-{end}", zone: UTC}}'


@pytest.mark.standard("B4")
def test_a_grant_holds_in_its_hours_and_networks_and_in_what_is_made_of_them(site):
    token = site.token("elsewhere")
    here, away = "{networks: 127.0.0.0/8}", "{networks: 198.51.100.0/24}"
    for when, reason in [
        (hours(-1, 1), ""),
        (hours(1, 2), "context"),
        (here, ""),
        (away, "context"),
        ("{any: [a, b]}", ""),
        ("{all: [a, b]}", "context"),
        ("{all: a, not: b}", ""),
        ("{networks: 127.0.0.0/8, not: a}", "context"),
    ]:
        contexts = f"never-open: {when}\n  a: {hours(-1, 1)}\n  b: {away}"
        site.apply(site.policy((NEVER_OPEN, contexts)))
        assert (when, site.once("GET", INVOICES, token=token).reason) == (when, reason)


@pytest.mark.standard("D5")
def test_who_may_not_do_it_learns_by_no_refusal_what_is_described(site):
    token = site.token("visitor")
    wrong, right = json.dumps({"lines": 1, "x": 1}).encode(), json.dumps({"lines": []}).encode()
    told = [
        site.once("POST", "/shop/orders", body, token=token, **{"content-type": kind})
        for body in (wrong, right, b"{")
        for kind in ("application/json", "text/plain")
    ]
    told += [site.once("GET", f"/shop/orders?{query}", token=token) for query in ("limit=x", "nothing=1", "limit=5")]
    assert {(one.status, one.reason) for one in told} == {(403, "role")}
    said = [{k: v for k, v in json.loads(one.body).items() if k not in {"decision", "instance"}} for one in told]
    assert all(one == said[0] or one == said[-1] for one in said)


@pytest.mark.standard("D6")
def test_nobody_looks_into_a_request_that_a_role_refuses_already(site):
    body, clerk, visitor = json.dumps({"lines": []}).encode(), site.token("clerk"), site.token("visitor")

    def order(token):
        return site.once("POST", "/shop/orders", body, token=token, **{"content-type": "application/json"}).status

    with site.instead_of("guard") as guard:
        assert (order(visitor), guard.seen) == (403, [])
        until(lambda: order(clerk) == 200)  # the gate's connections to the one that was killed fail first
        assert (order(visitor), len(guard.seen)) == (403, 1)


@pytest.mark.standard("G4")
@pytest.mark.standard("G8")
def test_an_earlier_revision_comes_back_as_it_was_and_is_recorded_as_what_it_is(site):
    wider = site.policy((CLERK, CLERK.replace("stock", "invoice")))
    first = site.apply(wider, reason="quarter end")["revision"]
    site.apply(site.policy(), reason="and back")
    assert site.once("GET", INVOICES, token=site.token("clerk")).reason == "role"
    rows = site.ostiary("policy", "list", "--json").json
    assert [row["why"] for row in rows[:2]] == ["and back", "quarter end"]
    number = str(next(row["number"] for row in rows if row["revision"] == first))
    told = site.ostiary("policy", "show", number, "--json").json
    assert (told["text"], told["proof"]["grants"] > 1, told["proof"]["widens"]) == (wider, True, 1)
    assert wider.rstrip() in site.ostiary("policy", "show", number).out
    changes = site.ostiary("policy", "compare", number, str(rows[0]["number"])).out
    assert "- narrows clerk may no longer shop/invoice:read" in changes
    done = site.ostiary("policy", "restore", number, "--reason", "the year's end")
    assert f"revision {first} is in force at gate and guard" in done.out
    assert site.once("GET", INVOICES, token=site.token("clerk")).status == 200
    (entry,) = site.ask("audit.list", action="policy.apply", limit=1)
    assert (entry["after"]["revision"], entry["reason"]) == (first, f"restores revision {number}: the year's end")


@pytest.mark.standard("G4")
def test_a_revision_of_several_files_is_enforced_kept_and_restored_whole(site):
    """Whoever asks has read the files: control itself reads none, so nothing beside them can be read through it."""
    folder = site.root / "several"
    (folder / "roles").mkdir(parents=True)
    (folder / "specs").mkdir()
    (folder / "specs" / site.spec.name).write_text(site.spec.read_text())
    main = site.policy((ELSEWHERE, "")) + "include: roles/*.yaml\n"
    (folder / "policy.yaml").write_text(main)
    (folder / "roles/elsewhere.yaml").write_text(f"roles:\n{ELSEWHERE}".replace(", when: never-open", ""))
    for command in ("check", "test", "fmt", "diff", "apply"):
        done = site.ostiary("policy", command, str(folder / "policy.yaml"))
        assert done.code == 0, done.err
    assert site.once("GET", INVOICES, token=site.token("elsewhere")).status == 200
    on = open_installation(site.home)
    try:
        text, files = texts_of(on.store, revision := revision_in_force(site.home))
    finally:
        on.store.close()
    named = ("roles/elsewhere.yaml", f"specs/{site.spec.name}")
    assert files == {name: (folder / name).read_text() for name in named}
    site.apply(site.policy())
    assert site.once("GET", INVOICES, token=site.token("elsewhere")).reason == "context"
    (folder / "roles/elsewhere.yaml").unlink()
    again = site.ask("policy.apply", document={"text": text, "files": files, "file": str(folder / "policy.yaml")})
    assert again["revision"] == revision
    number = site.ostiary("policy", "list", "--limit", "1", "--json").json[0]["number"]
    shown = site.ostiary("policy", "show", str(number)).out
    assert "# file roles/elsewhere.yaml" in shown
    assert re.search(
        rf"# file specs/{site.spec.name}: [0-9,]+ bytes, sha256 [0-9a-f]{{64}}; --file specs/{site.spec.name} shows it\n",
        shown,
    )
    site.apply(site.policy())
    assert site.ask("policy.restore", number=number, reason="whole")["revision"] == revision
    with pytest.raises(OstiaryError, match=r"policy.yaml:\d+:10: include: no file below the policy's folder"):
        site.ask("policy.apply", document={"text": text, "file": str(folder / "policy.yaml")})
    without = {name: one for name, one in files.items() if name.startswith("roles")}
    with pytest.raises(OstiaryError, match=rf"system shop: specs/{site.spec.name} did not come with the policy"):
        site.ask("policy.apply", document={"text": text, "files": without, "file": str(folder / "policy.yaml")})
    site.apply(site.policy())
