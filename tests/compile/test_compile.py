"""From the document to the plan: the same document the same plan, every grant with an id and its line."""

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from ostiary.compile.plan import compile_policy
from ostiary.erp.openapi import load
from ostiary.erp.operation import Pattern, Verb
from ostiary.plan.model import (
    All,
    Always,
    AnyOf,
    Countries,
    Device,
    HandOver,
    Hours,
    Kind,
    Level,
    Mfa,
    Networks,
    Not,
    Recent,
)
from ostiary.policy.fmt import fmt
from ostiary.policy.parse import parse
from ostiary.policy.words import FOREVER_S
from policy.compiled import HEAD, plan_of, policy_of
from policy.documents import documents

ROLES = """\
roles:
  clerk:
    level: user
    of: sales
    may:
      - "erp/sale.sale: read"
      - "erp/sale.*: read, write, execute quote"
    when: office
  manager: {level: department, of: sales, includes: [clerk], may: ["erp/sale.report: execute"], when: [night, home]}
  chief: {level: system, includes: [manager, auditor]}
  auditor: {level: system, may: "erp/*: read"}
"""


def test_the_same_document_gives_the_same_plan():
    assert plan_of(ROLES) == plan_of(ROLES)


@settings(deadline=None, max_examples=50, suppress_health_check=list(HealthCheck))
@given(documents())
def test_how_a_document_is_written_changes_lines_but_no_meaning(drawn):
    def compiled(text):
        found = parse(text, "acme.yaml").policy
        told = msgspec.to_builtins(compile_policy(found))
        return without_sources(told)

    def without_sources(value):
        if isinstance(value, dict):
            return {key: without_sources(one) for key, one in value.items() if key not in {"source", "revision"}}
        return [without_sources(one) for one in value] if isinstance(value, list | tuple) else value

    assert compiled(drawn[0]) == compiled(fmt(drawn[0]))


def test_a_plan_differs_where_a_rule_stands_on_another_line():
    """Its text is evidence: `explain` names lines, so they are part of the revision."""
    assert plan_of(ROLES).revision != plan_of("\n" + ROLES).revision


def test_a_grant_is_named_by_its_role_its_line_and_of_several_verbs_the_verb():
    grants = plan_of(ROLES).grants
    assert [grant.id for grant in grants] == [
        "clerk/1", "clerk/2.read", "clerk/2.write", "clerk/2.execute.quote", "manager/1", "auditor/1",
    ]  # fmt: skip
    assert len({grant.id for grant in grants}) == len(grants)
    assert grants[3].pattern == Pattern(system="erp", object="sale.*", verb=Verb.EXECUTE, action="quote")


def test_a_grant_knows_its_file_line_and_text():
    source = plan_of(ROLES).grants[1].source
    assert (str(source), source.text) == ("acme.yaml:16", '- "erp/sale.*: read, write, execute quote"')
    assert (HEAD + ROLES).splitlines()[source.line - 1].strip() == source.text


def test_a_role_holds_itself_and_all_that_it_includes():
    closures = {role.name: role.closure for role in plan_of(ROLES).roles}
    assert closures == {
        "clerk": ("clerk",),
        "manager": ("clerk", "manager"),
        "chief": ("auditor", "chief", "clerk", "manager"),
        "auditor": ("auditor",),
    }


def test_levels_and_departments_are_kept():
    roles = {role.name: (role.level, role.department) for role in plan_of(ROLES).roles}
    assert roles["manager"] == (Level.DEPARTMENT, "sales")
    assert roles["auditor"] == (Level.SYSTEM, "")


def test_contexts_of_a_role_are_joined_by_and_in_its_order():
    by_role = {grant.role: grant.context for grant in plan_of(ROLES).grants}
    assert (by_role["auditor"].name, by_role["auditor"].formula) == ("always", Always())
    office = Hours(days=(0, 1, 2, 3, 4), start=480, end=1080, zone="Europe/Berlin")
    assert (by_role["clerk"].name, by_role["clerk"].formula) == ("office", office)
    night = Hours(days=tuple(range(7)), start=1320, end=360, zone="Europe/Berlin")
    home = Networks(networks=("203.0.113.0/24", "2001:db8::/32"))
    assert (by_role["manager"].name, by_role["manager"].formula) == ("night + home", All(parts=(night, home)))


def test_a_context_with_hours_and_networks_asks_for_both():
    head = HEAD.replace("  home: {", '  home: {hours: "08:00-12:00", zone: UTC, ')
    (grant,) = plan_of("roles: {a: {level: system, may: 'erp/a: read', when: home}}\n", head).grants
    assert [type(part) for part in grant.context.formula.parts] == [Hours, Networks]


def test_a_context_is_made_of_others_by_all_any_and_not():
    head = (
        HEAD
        + """\
  away: {networks: 10.0.0.0/8, all: [office], any: [night, home], not: [home]}
"""
    )
    (grant,) = plan_of("roles: {a: {level: system, may: 'erp/a: read', when: away}}\n", head).grants
    office, night, home = (one.formula for one in plan_of(ROLES).contexts)
    own = Networks(networks=("10.0.0.0/8",))
    assert grant.context.formula == All(parts=(own, office, AnyOf(parts=(night, home)), Not(part=home)))


def test_an_apart_rule_of_several_verbs_is_one_rule_for_each_pair():
    plan = plan_of("""\
apart:
  - {name: one, permissions: ["erp/a: write", "erp/b: execute"]}
  - {name: many, permissions: ["erp/a: write, delete", "erp/b: execute"], within: 30 days, link: party}
""")
    assert [(rule.id, rule.name, str(rule.first), rule.dynamic) for rule in plan.apart] == [
        ("apart/1", "one", "erp/a:write", False),
        ("apart/2.1", "many", "erp/a:write", True),
        ("apart/2.2", "many", "erp/a:delete", True),
    ]
    assert (plan.apart[2].link, plan.apart[2].within_days, plan.apart[2].source.line) == ("party", 30, 12)


def test_a_never_rule_keeps_level_roles_and_patterns():
    plan = plan_of(ROLES + 'never: [{name: x, level: partner, roles: clerk, may: ["erp/a: read, write"]}]\n')
    (rule,) = plan.never
    assert (rule.level, rule.roles, list(map(str, rule.patterns))) == (
        Level.PARTNER,
        ("clerk",),
        ["erp/a:read", "erp/a:write"],
    )


def test_limits_have_safe_values_where_the_document_says_nothing():
    limits = plan_of("").limits
    assert (limits.anonymous.requests, limits.anonymous.seconds) == (60, 60)
    assert (limits.default.requests, limits.default.seconds) == (1000, 3600)
    assert (limits.roles, limits.body_bytes) == ((), 10 * 1024 * 1024)


def test_limits_are_those_of_the_document():
    limits = plan_of(
        ROLES
        + """\
limits:
  manager: {requests: 5/second}
  clerk: {requests: 9/day}
  anonymous: {requests: 7/minute}
  default: {body: 1 MB}
"""
    ).limits
    assert [(one.name, one.requests, one.seconds) for one in (limits.anonymous, limits.default, *limits.roles)] == [
        ("anonymous", 7, 60), ("default", 1000, 3600), ("clerk", 9, 86400), ("manager", 5, 1),
    ]  # fmt: skip
    assert limits.body_bytes == 1024 * 1024


def test_systems_are_kept_as_they_are_described():
    erp, shop = plan_of("when-silent: keep\n").systems
    assert (erp.kind, erp.hand_over, erp.guarded, erp.database) == (Kind.TRYTON, HandOver.SESSION, True, "acme")
    assert (shop.kind, shop.hand_over, shop.guarded, shop.upstream) == (
        Kind.OPENAPI,
        HandOver.NONE,
        False,
        "https://shop.internal",
    )
    assert plan_of("when-silent: keep\n").silent_s == FOREVER_S
    assert plan_of("when-silent: keep 10 minutes\n").silent_s == 600
    assert 0 < plan_of("when-silent: ask\n").silent_s < plan_of("when-silent: keep 1 second\n").silent_s
    assert plan_of("").silent_s == 0


def test_routes_come_from_the_described_operations_in_their_order():
    document = b"""
openapi: 3.1.0
info: {title: Shop, version: "1"}
paths:
  /orders: {get: {tags: [Order]}, post: {tags: [Order]}}
  /orders/{id}: {delete: {tags: [Order]}}
"""
    routes = compile_policy(policy_of(""), {"shop": load(document, "shop").routes}).routes
    assert [(one.system, one.method, one.template, f"{one.object}:{one.verb}") for one in routes] == [
        ("shop", "GET", "/orders", "order:read"),
        ("shop", "POST", "/orders", "order:write"),
        ("shop", "DELETE", "/orders/{id}", "order:delete"),
    ]


@pytest.mark.parametrize("text", ["", ROLES])
def test_a_plan_is_sealed(text):
    assert plan_of(text).revision


def test_every_kind_of_context_becomes_a_formula_and_outside_a_country_means_known_to_be_outside():
    contexts = """\
  dach: {countries: [DE, AT]}
  sure: {assurance: mfa, within: 15 minutes, devices: registered}
  abroad: {not: dach}
  shop-hours: {hours: "08:00-18:00", zone: UTC, holidays: [12-25, 2026-04-03]}
"""
    told = {
        one.name: one.formula for one in plan_of("", HEAD.replace("contexts:\n", f"contexts:\n{contexts}")).contexts
    }
    assert told["dach"] == Countries(countries=("DE", "AT"))
    assert told["sure"] == All(parts=(Device(), Mfa(), Recent(seconds=900)))
    assert told["abroad"] == Not(part=Countries(countries=("DE", "AT", "")))
    assert told["shop-hours"].holidays == ("12-25", "2026-04-03")
