"""What a policy must not say: `never`, `apart`, its own tests; and what is wider than it looks."""

from datetime import date

import pytest

from ostiary.compile.plan import compile_policy
from ostiary.erp.operation import Verb
from ostiary.erp.route import Route
from ostiary.prove.changes import diff
from ostiary.prove.rules import broad, changed, check, controls, ended, failures
from policy.compiled import HEAD, plan_of, policy_of

ROLES = """\
roles:
  buyer: {level: user, of: sales, may: "erp/party.party: write", when: office}
  payer: {level: user, of: finance, may: "erp/account.*: execute", when: night}
  boss: {level: department, of: finance, includes: payer}
  carrier: {level: partner, may: "erp/stock.out: read"}
"""
APART = """\
apart:
  - {name: create and pay, permissions: ["erp/party.party: write", "erp/account.payment: execute approve"]}
"""
LINE_OF_RULE = f"acme.yaml:{(HEAD + ROLES).count(chr(10)) + 2}"


def lines(finding):
    return [str(source) for source in finding.where]


def found(text, assigned=None):
    return [finding.message for finding in check(plan_of(text), assigned or {})]


def test_roles_that_hold_one_duty_each_are_in_order():
    assert found(ROLES + APART) == []


def test_a_role_that_holds_both_duties_is_found_with_the_lines_of_all_three():
    both = ROLES.replace("includes: payer", 'includes: payer, may: "erp/party.*: write"')
    (finding,) = check(plan_of(both + APART))
    assert finding.message == (
        "apart 'create and pay' (high): role boss holds both erp/party.party:write and erp/account.payment:execute.approve"
    )
    assert lines(finding) == ["acme.yaml:13", "acme.yaml:12", LINE_OF_RULE]
    assert "because acme.yaml:12: payer: {level: user, of: finance, " in str(finding)


def test_contexts_do_not_excuse_duties_held_at_different_hours():
    assert found(ROLES + APART, {"user:anna": frozenset({"buyer", "payer"})}) == [
        "apart 'create and pay' (high): user:anna holds both erp/party.party:write and erp/account.payment:execute.approve"
    ]


def test_a_principal_is_judged_by_all_roles_that_his_roles_include():
    assert len(found(ROLES + APART, {"user:anna": frozenset({"buyer", "boss"}), "user:ben": frozenset({"boss"})})) == 1


def test_a_role_that_the_policy_does_not_know_gives_nothing():
    assert found(ROLES + APART, {"user:anna": frozenset({"buyer", "gone"})}) == []


def test_duties_kept_apart_by_history_may_be_held_by_one_person():
    dynamic = APART.replace("]}", "], within: 30 days, link: party}")
    assert found(ROLES + dynamic, {"user:anna": frozenset({"buyer", "payer"})}) == []


@pytest.mark.parametrize(
    "rule, roles",
    [
        ('{name: x, level: partner, may: "erp/stock.*: read"}', ["carrier"]),
        ('{name: x, level: partner, may: "erp/account.*: read, write"}', []),
        ('{name: x, level: department, may: "erp/account.payment: execute"}', ["boss"]),
        ('{name: x, roles: [boss, carrier], may: "erp/account.payment: execute approve"}', ["boss"]),
        ('{name: x, level: partner, roles: buyer, may: "erp/*: read, write"}', ["buyer", "carrier"]),
        ('{name: x, level: user, may: ["erp/party.party: write create"]}', ["buyer"]),
        ('{name: x, level: user, may: ["shop/*: read, write, execute, delete"]}', []),
    ],
)
def test_never_is_found_for_every_role_it_speaks_of_whatever_way_it_came_to_hold_it(rule, roles):
    messages = found(f"{ROLES}never: [{rule}]\n")
    assert [message.split("role ")[1].split()[0] for message in messages] == roles


def test_a_violation_of_never_names_the_grant_and_the_rule():
    (finding,) = check(
        plan_of(ROLES + 'never:\n  - {name: x, level: department, may: "erp/account.payment: execute"}\n')
    )
    assert (
        finding.message
        == "never 'x': on Mon at 01:00 Europe/Berlin, from any address, role boss may erp/account.payment:execute"
    )
    assert lines(finding) == ["acme.yaml:12", LINE_OF_RULE]
    assert finding.hint == "take erp/account.*:execute from role payer, or change the rule"


def failing(text):
    policy = policy_of(ROLES + text)
    return failures(compile_policy(policy), policy)


def test_a_test_that_does_not_hold_is_found_with_its_line_and_what_came_out():
    found = failing("""\
tests:
  - {who: buyer, does: "erp/party.party: write", at: "2026-03-03T10:00+01:00", expect: allow}
  - {who: buyer, does: "erp/party.party: write", at: "2026-03-03T20:00+01:00", expect: allow}
  - {who: buyer, does: "erp/party.party: delete", at: "2026-03-03T10:00+01:00", expect: allow}
  - {who: [buyer, boss], does: "erp/account.move: execute post", at: "2026-03-03T23:00+01:00", expect: deny}
""")
    assert [(finding.message, (*lines(finding),)) for finding in found] == [
        ("test: buyer doing erp/party.party:write at 2026-03-03T20:00:00+01:00 was refused (context) by buyer/1", ("acme.yaml:17",)),
        ("test: buyer doing erp/party.party:delete at 2026-03-03T10:00:00+01:00 was refused (role)", ("acme.yaml:18",)),
        ("test: buyer, boss doing erp/account.move:execute.post at 2026-03-03T23:00:00+01:00 was allowed by payer/1", ("acme.yaml:19",)),
    ]  # fmt: skip


def test_a_test_says_from_where_and_without_it_from_the_machine_itself():
    text = """\
  guest: {{level: partner, may: "erp/stock.out: read", when: home}}
tests:
  - {{who: guest, does: "erp/stock.out: read", at: "2026-03-03T10:00Z", {}expect: allow}}
"""
    assert failing(text.format('from: "2001:db8::7", ')) == ()
    assert len(failing(text.format(""))) == 1


@pytest.mark.parametrize(
    ("does", "expect", "holds"),
    [
        ("order: read", "allow", True),
        ("ordr: read", "allow", False),
        ("ordr: read", "deny", True),
        ("order: write", "allow", False),
    ],
)
def test_a_test_is_answered_as_the_gate_does_where_a_document_has_no_such_operation(does, expect, holds):
    """Else one of a misspelled name says `allow`, by a line of everything, and the gate denies."""
    text = f"""\
  all: {{level: system, may: "shop/*: read, write"}}
tests:
  - {{who: all, does: "shop/{does}", at: "2026-03-03T10:00Z", expect: {expect}}}
"""
    policy, routes = (
        policy_of(ROLES + text),
        [Route(system="shop", method="GET", template="/o", object="order", verb=Verb.READ)],
    )
    found = failures(compile_policy(policy, {"shop": routes}), policy)
    assert [one.message.rpartition(" was ")[2] for one in found] == ([] if holds else ["refused (unknown-operation)"])


def test_a_grant_of_every_object_is_reported_with_its_line():
    plan = plan_of('roles: {chief: {level: system, may: ["erp/*: read, delete", "erp/sale.*: write"]}}\n')
    assert list(broad(plan)) == [
        "acme.yaml:10: role chief may read every object of erp",
        "acme.yaml:10: role chief may delete every object of erp",
    ]


ANYBODY = 'never:\n  - {name: x, outside: %s, may: "erp/account.*: execute"}\n'
LEDGER = """\
roles:
  auditor: {level: user, of: finance, may: %s}
always:
  - {name: the ledger, roles: auditor, may: "erp/account.*: read"%s}
"""
WHOLE = '"erp/account.*: read"'


def test_never_may_leave_one_context_in_which_it_is_allowed():
    assert found(ROLES + ANYBODY % "night") == []
    messages = found(ROLES + ANYBODY % "office")
    assert [message.split("role ")[1] for message in messages] == [
        "payer may erp/account.*:execute",
        "boss may erp/account.*:execute",
    ]
    assert all(message.startswith("never 'x': on ") for message in messages)


def test_never_without_level_and_roles_speaks_of_every_role():
    assert len(found(ROLES + 'never: [{name: x, may: "erp/account.payment: execute"}]\n')) == 2


@pytest.mark.parametrize(
    "may, when, holds",
    [
        (f"[{WHOLE}]", "", True),
        ('["erp/sale.*: write", "erp/account.*: read, write"]', "", True),
        ("[]", "", False),
        ('["erp/account.move: read"]', "", False),
        ('["erp/account.*: read get"]', "", False),
        ('["erp/account.*: write"]', "", False),
        ('[{do: "erp/account.*: read", fields: [amount]}]', "", False),
        ('[{do: "erp/account.*: read", where: {company: own}}]', "", False),
        (f"[{WHOLE}], when: office", "", False),
        (f"[{WHOLE}], when: office", ", when: office", True),
        (f"[{WHOLE}], when: office", ", when: home", False),
        (f"[{WHOLE}], when: day", "", False),
        (f"[{WHOLE}], when: day, includes: nightly", "", True),
        (f"[{WHOLE}], when: day, includes: nightly", ", when: night", True),
    ],
)
def test_always_holds_where_some_grant_of_all_of_it_does_in_every_situation(may, when, holds):
    head = HEAD + '  day: {hours: "06:00-22:00", zone: Europe/Berlin}\n'
    nightly = f"  nightly: {{level: user, of: finance, may: [{WHOLE}], when: night}}\n"
    plan = plan_of(
        LEDGER % (may, when)
        if "nightly" not in may
        else (LEDGER % (may, when)).replace("always", nightly + "always", 1),
        head,
    )
    told = check(plan)
    assert [one.message.startswith("always 'the ledger': ") for one in told] == ([] if holds else [True])
    for one in told:
        assert one.message.endswith("role auditor may not erp/account.*:read")
        assert one.where[-1].text.startswith("- {name: the ledger")


ALWAYS_AT = "always: [{name: y, may: 'erp/a.b: read', when: %s}]\n"


@pytest.mark.parametrize(
    "before, after, told",
    [
        (ANYBODY % "night", "", ["+ never 'x' is no longer proved as it was"]),
        ("", ANYBODY % "night", ["- never 'x' is proved from now on"]),
        (ANYBODY % "night", ANYBODY % "office", ["+ never 'x' is no longer proved as it was", "- never 'x' is proved from now on"]),
        (ANYBODY % "night", (ANYBODY % "night").replace("outside: night, ", ""), ["- never 'x' is proved from now on"]),
        (ANYBODY % "night", (ANYBODY % "night").replace("name: x", "name: x, level: user"), ["+ never 'x' is no longer proved as it was"]),
        ("always: [{name: y, roles: payer, may: 'erp/a: read'}]\n", "", ["- always 'y' is no longer proved as it was"]),
        ("", "\n\nalways: [{name: y, roles: payer, may: 'erp/a: read'}]\n", ["- always 'y' is proved from now on"]),
        ("always: [{name: y, may: 'erp/a: read'}]\n", "\n\nalways: [{name: y, may: 'erp/a: read'}]\n", []),
        ("always: [{name: y, may: 'erp/a: read'}]\n", "always: [{name: other, may: 'erp/a: read'}]\n", []),
        (ALWAYS_AT % "office", ALWAYS_AT % "night", ["- always 'y' is no longer proved as it was", "- always 'y' is proved from now on"]),
        (ALWAYS_AT % "office", "always: [{name: y, may: 'erp/a.*: read'}]\n", ["- always 'y' is proved from now on"]),
    ],
)  # fmt: skip
def test_a_statement_that_comes_goes_or_says_less_is_told(before, after, told):
    changes = diff(plan_of(ROLES + before), plan_of(ROLES + after))
    assert [f"{'+' if one.widens else '-'} {one.text.partition(' (')[0]}" for one in changes] == told


def test_a_test_may_name_fields_and_speaks_of_a_record_that_meets_the_conditions():
    text = """\
roles: {clerk: {level: system, may: [{do: "erp/sale.sale: write", fields: [a, b], where: {amount: "<= 5"}}]}}
tests:
  - {who: clerk, does: "erp/sale.sale: write", at: "2026-03-03T10:00Z", fields: [b, a], expect: allow}
  - {who: clerk, does: "erp/sale.sale: write", at: "2026-03-03T10:00Z", expect: allow}
  - {who: clerk, does: "erp/sale.sale: write", at: "2026-03-03T10:00Z", fields: c, expect: deny}
  - {who: clerk, does: "erp/sale.sale: write", at: "2026-03-03T10:00Z", fields: c, expect: allow}
"""
    (found,) = failures(plan_of(text), policy_of(text))
    assert "refused (field)" in found.message
    assert list(map(str, found.where)) == ["acme.yaml:15"]


@pytest.mark.parametrize(
    ("does", "told", "expect"),
    [
        ("read", "record: {amount: 5, party: own}", "allow"),
        ("read", "record: {amount: 6, party: own}", "deny"),  # more than the bound
        ("read", "record: {amount: 5, party: 7}", "deny"),  # somebody else's
        ("read", "record: {amount: 5}", "deny"),  # nobody knows whose
        ("read", "record: {amount: 5, party: own}, fields: [name]", "allow"),
        ("read", "record: {amount: 5, party: own}, fields: [secret]", "deny"),
        ("write", "record: {amount: 5, party: own}, fields: [amount]", "allow"),  # to what it holds then
        ("write", "record: {amount: 6, party: own}, fields: [amount]", "deny"),
        ("write", "record: {amount: 5, party: own, name: x}, fields: [name]", "allow"),
        ("write", "record: {amount: 5, name: x}, fields: [name, party]", "deny"),
        ("write", "fields: [amount]", "allow"),  # of a record that meets the conditions
    ],
)
def test_a_test_may_name_what_the_record_holds_and_is_judged_by_it(does, told, expect):
    where = '{amount: "<= 5", party: own}'
    text = f"""\
roles: {{clerk: {{level: system, may: [{{do: "erp/sale.sale: read, write", fields: [amount, name, party], where: {where}}}]}}}}
tests:
  - {{who: clerk, does: "erp/sale.sale: {does}", at: "2026-03-03T10:00Z", {told}, expect: allow}}
  - {{who: clerk, does: "erp/sale.sale: {does}", at: "2026-03-03T10:00Z", {told}, expect: deny}}
"""
    (found,) = failures(plan_of(text), policy_of(text))
    assert found.where[0].line == {"deny": 12, "allow": 13}[expect]


def test_never_and_apart_count_a_grant_of_some_fields_or_records_as_a_grant():
    text = """\
roles: {clerk: {level: system, may: [{do: "erp/sale.sale: write", fields: [a]}, {do: "erp/account.move: write", where: {y: own}}]}}
never: [{name: n, roles: clerk, may: "erp/sale.sale: write"}]
apart: [{name: a, permissions: ["erp/sale.sale: write", "erp/account.move: write"]}]
"""
    assert [one.message.split(" ")[0] for one in check(plan_of(text))] == ["never", "apart"]


# --- controls in place of a rule

HOLDING = ROLES.replace("includes: payer", 'includes: payer, may: "erp/party.*: write"')
RULE = APART.replace("{name: create and pay", "{id: P2P-01, name: create and pay")
CONTROL = """\
controls:
  - {rules: P2P-01, roles: boss, what: the owner reads all, owner: eva, reason: three people, until: 2026-03-31}
"""
LAST, AFTER = date(2026, 3, 31), date(2026, 4, 1)


def under_control(text, assigned=None, on=LAST):
    return [finding.message for finding in check(plan_of(text), assigned or {}, on=on)]


def test_a_control_lets_its_role_hold_both_to_the_end_of_its_last_day():
    assert under_control(HOLDING + RULE + CONTROL) == []
    (told,) = under_control(HOLDING + RULE + CONTROL, on=AFTER)
    line = (HOLDING + RULE + CONTROL).splitlines().index(CONTROL.splitlines()[1]) + 1
    assert told.endswith(f"; the control of acme.yaml:{len(HEAD.splitlines()) + line} ended on 2026-03-31")


def test_what_only_an_erp_can_tell_of_records_is_advised_for_no_described_system():
    rule = 'apart: [{name: n, permissions: ["%s: write", "%s: execute"]}]\n'
    for first, then, advised in (("erp/a", "erp/b", True), ("shop/a", "shop/b", False), ("erp/a", "shop/b", False)):
        role = f'roles: {{all: {{level: system, may: ["{first}: write", "{then}: execute"]}}}}\n'
        (one,) = check(plan_of(role + rule % (first, then)))
        assert ("`within`" in one.hint, one.hint.startswith("give them to two persons; ")) == (advised, True)


def test_a_control_that_has_ended_is_told_also_where_nobody_holds_both():
    plan = plan_of(ROLES + RULE + CONTROL)
    assert (check(plan, on=AFTER), list(ended(plan, LAST))) == ((), [])
    (told,) = ended(plan, AFTER)
    assert told.message == f"the control of {told.where[0]} ended on 2026-03-31"


def test_no_control_counts_where_nobody_says_which_day_it_is():
    (told,) = check(plan_of(HOLDING + RULE + CONTROL))
    assert "ended" not in told.message


def test_a_control_speaks_of_no_other_role_and_of_none_that_includes_its_own():
    more = HOLDING + "  chief: {level: department, of: finance, includes: boss}\n"
    (told,) = under_control(more + RULE + CONTROL)
    assert "role chief holds both" in told
    told = "\n".join(under_control(more + RULE + CONTROL, on=AFTER))
    assert told.count("role boss holds both") == told.count("ended on") == 1
    held = {"user:anna": frozenset({"boss"}), "user:ben": frozenset({"buyer", "payer"})}
    (told,) = under_control(HOLDING + RULE + CONTROL, held)
    assert "user:ben holds both" in told


def test_a_control_is_told_with_who_answers_for_it():
    (told,) = controls(plan_of(HOLDING + RULE + CONTROL))
    assert told.endswith(
        "'create and pay' does not hold for role boss until 2026-03-31: three people; instead, the owner reads all (eva)"
    )


@pytest.mark.parametrize(
    ("later", "widens"),
    [
        (CONTROL.replace("2026-03-31", "2026-06-30"), [True]),
        (CONTROL.replace("2026-03-31", "2026-03-30"), [False]),
        (CONTROL.replace("roles: boss", "roles: [boss, payer]"), [True]),
        (CONTROL.replace("the owner reads all", "the auditor reads all"), []),
        ("", [False]),
    ],
)
def test_who_may_do_both_for_how_long_is_a_change_that_diff_tells(later, widens):
    before = plan_of(HOLDING + RULE + CONTROL)
    told = diff(before, plan_of(HOLDING + RULE + later))
    assert [one.widens for one in told] == widens
    assert all("'create and pay' is kept apart" in one.text for one in told)


def test_each_duty_may_be_several_permissions_and_all_of_them_are_kept_apart():
    several = APART.replace('"erp/party.party: write"', '["erp/sale.sale: write", "erp/party.party: write"]')
    assert len(found(HOLDING + several)) == 1


def test_what_changed_in_a_proof_is_told_of_the_statements_of_both():
    roles = """\
roles:
  clerk: {level: system, may: ["erp/account.move: %s"]%s}
"""
    never = 'never: [{name: no ledger, roles: clerk, may: "erp/account.*: write"%s}]\n'
    reads, writes = plan_of(roles % ("read", "") + never % ""), plan_of(roles % ("write", ""))
    assert {name: [one.message for one in told] for name, told in changed(reads, writes).items()} == {
        "no longer held": ["never 'no ledger': at any time, from any address, role clerk may erp/account.move:write"],
        "held only now": [],
    }
    assert [one.where[0].line for one in changed(writes, reads)["held only now"]] == [HEAD.count("\n") + 2]
    outside = plan_of(roles % ("write", ", when: home") + never % ", outside: home")
    assert changed(writes, outside)["held only now"]
    assert not changed(outside, outside)["held only now"]
    assert not changed(reads, outside)["held only now"]
    assert changed(reads, outside)["no longer held"]


def test_a_role_that_leaves_a_level_is_still_held_to_what_was_proved_of_it():
    roles = 'roles: {carrier: {%s may: "erp/account.move: %s"}}\n'
    never = 'never: [{name: no ledger, level: partner, may: "erp/account.*: write"}]\n'
    before = plan_of(roles % ("level: partner,", "read") + never)
    after = plan_of(roles % ("level: user, of: sales,", "write") + never)
    assert not check(after)
    assert [one.message for one in changed(before, after)["no longer held"]] == [
        "never 'no ledger': at any time, from any address, role carrier may erp/account.move:write"
    ]


WHOLE_WEEKS = HEAD + '  open-days: {days: mon-sun, hours: "00:00-24:00", zone: UTC, holidays: [12-24, 12-31]}\n'


def test_what_may_be_done_on_holidays_alone_is_found_too():
    """Hours of whole weeks were taken for always: a policy that breaks `never` on a holiday was proved."""
    role = 'roles: {payer: {level: user, of: finance, may: "erp/account.payment: execute", when: open-days}}\n'
    rule = 'never: [{name: feasts, level: user, may: "erp/account.payment: execute", outside: open-days}]\n'
    bound, free = (plan_of(text + rule, WHOLE_WEEKS) for text in (role, role.replace(", when: open-days", "")))
    assert check(bound) == ()
    (finding,) = check(free)
    assert finding.message.startswith(
        "never 'feasts': on Thu 2026-12-24 at 00:00 UTC, from any address, role payer may"
    )
    assert [change.widens for change in diff(bound, free)] == [True]
