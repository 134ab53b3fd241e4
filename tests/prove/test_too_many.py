"""Contexts that are too many to prove: whoever asked is told which, where they stand, and what was proved of them."""

import pytest

from ostiary.erp.operation import operation_named
from ostiary.foundation.errors import OperatorFault
from ostiary.prove import situation
from ostiary.prove.changes import diff
from ostiary.prove.questions import idle, unused, what_can, who_can
from ostiary.prove.rules import check
from policy.compiled import plan_of

HEAD = """\
policy: acme
systems: {erp: {kind: tryton, at: erp.example.com, upstream: "http://127.0.0.1:8000", database: acme}}
departments: {sales: {}}
contexts:
  office: {hours: "08:00-18:00", zone: UTC, networks: [203.0.113.0/24], within: 5 minutes}
  home: {hours: "09:00-19:00", zone: UTC, networks: [203.0.112.0/23], within: 9 minutes}
  unused: {hours: "10:00-11:00", zone: UTC}
roles:
"""
CLERK = """\
  clerk: {level: user, of: sales, may: "sale.sale: write", when: office}
"""
BOTH = (
    CLERK
    + """\
  boss: {level: user, of: sales, may: "sale.sale: write", when: home, includes: clerk}
"""
)
NEVER = 'never: [{name: not outside, may: "sale.sale: write", outside: home}]\n'
APART = 'apart: [{name: two, permissions: ["sale.sale: write", "party.party: write"]}]\n'
ALWAYS = 'always: [{name: at home, roles: clerk, may: "sale.sale: write", when: home}]\n'
FIELDS = CLERK.replace('"sale.sale: write"', '{do: "sale.sale: write", fields: [a]}')
WHOLE = '  other: {level: user, of: sales, may: "sale.sale: write", when: home, includes: clerk}\n'
GRANT = "acme.yaml:9: role clerk may erp/sale.sale:write"
BOSS = "acme.yaml:10: role boss may erp/sale.sale:write"


def plan(text, head=HEAD):
    return plan_of(text, head)


WIDER = HEAD.replace("08:00-18:00", "07:00-17:00").replace("113.0/24", "0.0/16").replace("5 min", "7 min")
CASES = {
    "never": (
        lambda: check(plan(CLERK + NEVER)),
        "acme.yaml:10: 'not outside', where acme.yaml:9 grants it to role clerk", "office, home",
    ),
    "apart": (
        lambda: check(plan(CLERK + APART)),
        "acme.yaml:10: 'two', where acme.yaml:9 grants it to role clerk", "office",
    ),
    "always": (lambda: check(plan(CLERK + ALWAYS)), "acme.yaml:10: always 'at home'", "office, home"),
    "a grant that is new": (lambda: diff(plan(CLERK.replace("office", "[office, home]")), plan(BOTH)), GRANT, "office, home"),
    "a context": (
        lambda: diff(plan(CLERK, WIDER), plan(CLERK)), "acme.yaml:5: what is changed in context office", "office",
    ),
    "never, when it changes": (
        lambda: diff(plan(CLERK + NEVER), plan(CLERK + NEVER.replace("home", "office"))),
        "acme.yaml:10: never 'not outside'", "office, home",
    ),
    "lines that lead no more": (
        lambda: diff(plan(FIELDS + WHOLE), plan(FIELDS.replace("office", "home") + WHOLE)),
        GRANT, "office, home",
    ),
    "who can": (lambda: list(who_can(plan(BOTH), operation_named("erp/sale.sale:write"))), GRANT, "office"),
    "what can": (lambda: list(what_can(plan(BOTH), ["boss"], beyond="clerk")), GRANT, "office"),
    "idle": (lambda: list(idle(plan(BOTH))), BOSS, "home"),
    "unused": (lambda: list(unused(plan(BOTH), {}, 30)), GRANT, "office"),
}  # fmt: skip


@pytest.mark.parametrize("asked, what, contexts", CASES.values(), ids=CASES)
def test_what_is_proved_of_which_contexts_is_told_where_they_are_too_many(monkeypatch, asked, what, contexts):
    monkeypatch.setattr(situation, "TOGETHER_MAX", 1)
    monkeypatch.setattr(situation, "LEFT_MAX", 0)
    situation.counterexample.cache_clear()
    with pytest.raises(OperatorFault) as refused:
        asked()
    named = ", ".join(f"{name} (acme.yaml:{ {'office': 5, 'home': 6}[name] })" for name in contexts.split(", "))
    assert refused.value.code == "contexts-too-many"
    assert refused.value.message == f"{what}: this turns on too many contexts to prove, on {named}"
    assert refused.value.hint.startswith("let fewer of them ask for hours, networks")


@pytest.mark.parametrize("asked", [case[0] for case in CASES.values()], ids=CASES)
def test_a_few_are_not_too_many(asked):
    asked()
