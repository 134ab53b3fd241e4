"""What comes with Ostiary: rules and roles by name, for the system of their kind, overruled by what a policy says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import to_builtins

from ostiary.cli.policy import changed
from ostiary.compile.plan import compile_policy
from ostiary.erp.catalogue import Catalogue, Field
from ostiary.erp.operation import Verb
from ostiary.erp.tryton import offer
from ostiary.policy.fmt import fmt
from ostiary.policy.parse import packs, parse
from ostiary.prove.changes import diff
from ostiary.prove.rules import check
from ostiary.prove.spelling import slips

TRYTON = Path(__file__).parent / "tryton"
NAMES = TRYTON / "names.json"
ERP = 'erp: {kind: tryton, at: erp.test, upstream: "http://127.0.0.1:8000", database: acme}'
ODOO = 'erp: {kind: odoo, at: erp.test, upstream: "http://127.0.0.1:8069", database: acme}'
SECOND = 'old: {kind: tryton, at: old.test, upstream: "http://127.0.0.1:8001", database: acme}'
SHOP = 'shop: {kind: openapi, at: shop.test, upstream: "http://127.0.0.1:9", spec: shop.yaml}'
TABLE = (
    *(f"P2P-0{n}" for n in range(1, 10)), *(f"O2C-0{n}" for n in range(1, 5)), *(f"R2R-0{n}" for n in range(1, 5)),
    "FA-01", "INV-01", "HR-01", "HR-02", "SEC-01",
)  # fmt: skip


def document(named, more="", systems=(ERP,)):
    return "\n".join(["policy: acme", f"packs: {named}", "systems:", *(f"  {one}" for one in systems), more])


def policy_with(named, more="", systems=(ERP,)):
    parsed = parse(document(named, more, systems), "acme.yaml")
    assert parsed.policy, [str(one) for one in parsed.problems]
    return parsed.policy


def problems(named, more="", systems=(ERP,)):
    return [one.message for one in parse(document(named, more, systems), "acme.yaml").problems]


def test_the_22_rules_of_the_table_are_in_the_pack():
    rules = policy_with("[sod/tryton]").apart
    assert tuple(dict.fromkeys(rule.id.removeprefix("apart/").partition(".")[0] for rule in rules)) == TABLE
    assert not any(rule.dynamic for rule in rules)


def test_a_pack_that_is_new_is_told_by_its_rules_however_many_forms_each_has():
    before, after = (
        compile_policy(policy_with(named)) for named in ("[starter/tryton]", "[starter/tryton, sod/tryton]")
    )
    lines = changed([to_builtins(one) for one in diff(before, after, {})]).splitlines()
    assert "- narrows 22 rules of the pack sod/tryton, each with --json" in lines


@pytest.mark.parametrize("name", [one for one in packs() if one.endswith("/tryton")])
def test_each_name_in_a_pack_is_one_that_tryton_knows(name):
    text = "\n".join(["policy: acme", "systems:", f"  {ERP}", packs()[name].replace("SYSTEM/", "erp/")])
    policy = parse(text, "acme.yaml").policy
    assert list(slips(policy, {"erp": offer(catalogue(), "erp")})) == []


def catalogue():
    """Of a Tryton 8.2 in which all is active that a pack speaks of."""
    told = json.loads(NAMES.read_text())
    links = {name: {key: Field("many2one", to) for key, to in fields.items()} for name, fields in told["links"].items()}
    return Catalogue(models=links, methods={name: frozenset(one) for name, one in told["methods"].items()})


def needed(told):
    """What the packs speak of, of all that a database offers."""
    text = "".join(text for name, text in packs().items() if name.endswith("/tryton"))
    kept = {name: one for name, one in told["methods"].items() if f"SYSTEM/{name.removeprefix('model.')}:" in text}
    families = {line.split("SYSTEM/")[1].split("*")[0] for line in text.split('"') if ".*:" in line}
    for name in (f"model.{one}" for one in told["links"] if one.startswith(tuple(families))):
        kept.setdefault(name, [method for method in told["methods"][name] if method == "write"])
    links = {name: fields if f"SYSTEM/{name}:" in text else {} for name, fields in told["links"].items()}
    return {"links": {name: links[name] for name in links if f"model.{name}" in kept}, "methods": kept}


@pytest.mark.long
def test_the_names_kept_here_are_those_of_a_real_database(tmp_path):
    told = needed(json.loads(offered_by_all_modules(tmp_path)))
    if os.environ.get("OSTIARY_TRYTON_NAMES") == "write":
        NAMES.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
    assert told == json.loads(NAMES.read_text())


def offered_by_all_modules(folder):
    """What `names.py` tells of a new database in which every module of modules.in is active."""
    python, uv = folder / "venv/bin/python", Path(sys.executable).parent / "uv"
    modules = [one.partition("==")[0] for one in (TRYTON / "modules.in").read_text().split()]
    active = [one.removeprefix("trytond-").replace("-", "_") for one in modules if one != "trytond"]
    for name, text in (("erp.sqlite", ""), ("password", "only-for-this"), ("conf", f"[database]\nuri = sqlite://\npath = {folder}\n")):  # fmt: skip
        (folder / name).write_text(text)

    def run(*command):
        environment = {**os.environ, "TRYTONPASSFILE": str(folder / "password")}
        return subprocess.run(command, check=True, capture_output=True, timeout=500, env=environment).stdout

    run(uv, "venv", "-q", "--python", sys.executable, folder / "venv")
    run(uv, "pip", "install", "-q", "--python", python, "--require-hashes", "-r", TRYTON / "modules.txt")
    admin = (python.with_name("trytond-admin"), "-c", folder / "conf", "-d", "erp", "--email", "a@example.com")
    run(*admin, "--activate-dependencies", "-u", *active)
    return run(python, TRYTON / "names.py", "erp", folder)


def test_the_starter_roles_hold_no_two_duties_that_the_rules_keep_apart():
    plan = compile_policy(policy_with("[starter/tryton, sod/tryton]"))
    assert len(plan.roles) > 15
    assert check(plan) == ()


def test_what_no_role_of_the_pack_keeps_apart_is_refused_with_the_line_of_the_pack():
    boss = 'roles: {boss: {level: system, may: ["party.party: write", "account.payment: execute approve"]}}'
    (found,) = check(compile_policy(policy_with("sod/tryton", boss)))
    assert found.message.startswith("apart 'create or change a supplier, and approve a payment' (critical): role boss")
    assert found.where[-1].file == "sod/tryton"
    assert found.where[-1].text.startswith("- id: P2P-01")


@pytest.mark.parametrize(
    ("enters", "then", "rule"),
    [
        ("account.move.line: write", "account.move: execute post", "R2R-01"),
        ("account.invoice.line: write", "account.payment: execute approve", "P2P-08"),
        ("account.invoice.tax: write", "account.payment: execute approve", "P2P-08"),
        ("purchase.line: write", "purchase.purchase: execute confirm", "P2P-04"),
        ("purchase.purchase: write", "purchase.purchase: execute confirm", "P2P-04"),
        ("sale.line: write", "party.party: write", "O2C-01"),
        ("stock.inventory.line: write", "stock.inventory: execute confirm", "INV-01"),
    ],
)
def test_who_writes_the_lines_of_a_record_enters_it(enters, then, rule):
    both = f'roles: {{one: {{level: system, may: ["{enters}", "{then}"]}}}}'
    (found,) = check(compile_policy(policy_with("sod/tryton", both)))
    assert found.where[-1].text == f"- id: {rule}"


def test_a_purchase_is_entered_by_who_writes_it_also_by_record():
    rules = policy_with("[sod/tryton, sod-by-record/tryton]").apart
    assert [str(rule.first) for rule in rules if rule.id.startswith("apart/P2P-04")] == [
        "erp/purchase.purchase:write",
        "erp/purchase.purchase:execute.quote",
    ]


def test_by_record_takes_the_place_of_its_rules_and_leaves_the_others():
    rules = {rule.id: rule for rule in policy_with("[sod/tryton, sod-by-record/tryton]").apart}
    assert rules["apart/P2P-01"].dynamic
    assert not rules["apart/P2P-05"].dynamic
    assert len({one.partition(".")[0] for one in rules}) == len(TABLE)


def test_what_the_policy_says_itself_stands_in_the_place_of_a_packs():
    own = 'apart: [{id: P2P-01, name: mine, permissions: ["bank.bank: write", "sale.sale: write"]}]'
    clerk = 'roles: {sales-clerk: {level: partner, may: "sale.sale: read"}}'
    policy = policy_with("[sod/tryton, starter/tryton]", f"{own}\n{clerk}")
    assert [rule.name for rule in policy.apart if rule.id == "apart/P2P-01"] == ["mine"]
    assert [role.level for role in policy.roles if role.name == "sales-clerk"] == ["partner"]


def test_of_several_systems_of_the_kind_one_is_named():
    assert problems("[sod/tryton]", systems=(ERP, SECOND)) == [
        "packs: 'sod/tryton' is for one system, and here are 2 that it may mean"
    ]
    rules = policy_with("[old/sod/tryton]", systems=(ERP, SECOND, SHOP)).apart
    assert {rule.first.system for rule in rules} == {"old"}


@pytest.mark.parametrize(
    ("named", "systems", "told"),
    [
        ("[sod/tritun]", (ERP,), "packs: there is no pack 'sod/tritun'"),
        ("[../sod/tryton]", (ERP,), "packs: there is no pack '../sod/tryton'"),
        ("[{a: b}]", (ERP,), "packs: there is no pack ''"),
        ("[sod/tryton, sod/tryton]", (ERP,), "packs: the pack sod/tryton is named twice"),
        ("[old/sod/tryton, erp/sod/tryton]", (ERP, SECOND), "packs: the pack sod/tryton is named twice"),
        ("[sod/tryton]", (SHOP,), "packs: 'sod/tryton' is for one system, and here are 0 that it may mean"),
        ("[shop/sod/tryton]", (ERP, SHOP), "packs: 'shop/sod/tryton' is for one system, and here are 0 that it may mean"),
    ],
)  # fmt: skip
def test_a_pack_that_can_not_be_meant_is_a_problem(named, systems, told):
    assert problems(named, systems=systems) == [told]


def test_two_rules_of_the_policy_itself_do_not_share_an_id():
    two = 'apart: [{id: A, name: x, permissions: ["s.s: write", "t.t: write"]}, {id: A, name: y, permissions: ["s.s: write", "u.u: write"]}]'
    assert problems("[]", two) == ["another rule has the id A (acme.yaml:5)"]


def test_the_starter_roles_of_odoo_hold_no_two_duties_either_and_write_no_state():
    policy = policy_with("[starter/odoo, sod/odoo]", systems=(ODOO,))
    plan = compile_policy(policy)
    assert len(plan.roles) > 15
    assert check(plan) == ()
    stateful = ("sale.order", "purchase.order", "account.move", "account.payment", "stock.picking")
    writing = [grant for grant in plan.grants if grant.pattern.verb is Verb.WRITE and grant.pattern.object in stateful]
    assert len(writing) > 3
    assert all(grant.fields and "state" not in grant.fields for grant in writing)


def test_the_rules_of_odoo_are_of_the_table():
    rules = policy_with("[sod/odoo]", systems=(ODOO,)).apart
    assert {rule.id.removeprefix("apart/").partition(".")[0] for rule in rules} == {*TABLE} - {
        "P2P-09",
        "FA-01",
        "HR-02",
    }


@pytest.mark.parametrize("name", packs())
def test_a_pack_stands_in_the_form_of_fmt(name):
    head = f"policy: acme\nsystems:\n  {ODOO if name.endswith('/odoo') else ERP}\n"
    written = head + packs()[name].replace("SYSTEM/", "erp/")
    assert fmt(written) == written


def test_a_policy_with_packs_keeps_them_in_fmt():
    text = document("[sod/tryton]")
    assert "packs:\n  - sod/tryton\n" in fmt(text)
