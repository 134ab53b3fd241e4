"""What a change lets people do: by meaning, never less than it does."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import msgspec
import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from ostiary.compile.plan import compile_policy
from ostiary.erp.openapi import load
from ostiary.erp.operation import Operation, Verb
from ostiary.plan.decide import Facts, decide, limit_of
from ostiary.plan.model import All, Always, AnyOf, Circumstances, Hours, Networks, Not, holds
from ostiary.prove.changes import diff
from ostiary.prove.situation import counterexample, implies
from policy.compiled import HEAD, plan_of, policy_of

ROLES = """\
roles:
  clerk: {level: user, of: sales, may: ["erp/sale.*: read, write"], when: office}
  manager: {level: department, of: sales, includes: clerk, may: "erp/sale.report: execute"}
"""


def told(old, new):
    """Each change without the line, `+` widens."""
    changes = diff(None if old is None else plan_of(old), plan_of(new))
    return [
        f"{'+' if one.widens else '-'} {one.text.replace(' (before: acme', ' (acme').rsplit(' (acme', 1)[0]}"
        for one in changes
    ]


def changed(before, after, text=ROLES, head=HEAD):
    assert before in head + text
    whole = (head + text).replace(before, after, 1)
    return [
        f"{'+' if one.widens else '-'} {one.text.replace(' (before: acme', ' (acme').rsplit(' (acme', 1)[0]}"
        for one in diff(plan_of(text, head), plan_of("", whole))
    ]


def test_the_same_policy_is_no_change():
    assert told(ROLES, ROLES) == []


@pytest.mark.parametrize(
    "before, after",
    [
        ('["erp/sale.*: read, write"]', '["erp/sale.*: write", "erp/sale.*: read"]'),
        ('["erp/sale.*: read, write"]', '["erp/sale.*: read, write", "erp/sale.sale: read"]'),
        ("when: office", "when: [office, office]"),
        ("roles:\n", "# a comment\nroles:\n"),
        ("  office: {days: mon-fri,", "  other: {networks: 10.0.0.0/8}\n  office: {days: 'mon-wed, thu, fri',"),
        ("203.0.113.0/24", "203.0.113.0/25, 203.0.113.128/25"),
        ("policy: acme", "policy: other"),
    ],
)
def test_other_words_for_the_same_are_no_change(before, after):
    assert changed(before, after) == []


def test_what_is_no_longer_granted_is_told_at_its_line_of_before():
    texts = {one.text for one in diff(plan_of(ROLES, HEAD), plan_of(ROLES.replace("read, write", "read"), HEAD))}
    assert any(" may no longer " in text and " (before: acme.yaml:" in text for text in texts)


def test_a_renamed_context_is_no_change():
    assert [
        *diff(plan_of(ROLES), plan_of(ROLES.replace("when: office", "when: work"), HEAD.replace("office", "work")))
    ] == []


@pytest.mark.parametrize(
    "before, after, changes",
    [
        ("read, write", "read, write, delete", ["+ clerk may now erp/sale.*:delete when office"]),
        ("read, write", "read", ["- clerk may no longer erp/sale.*:write when office"]),
        ("read, write", "read, write create", ["- clerk may no longer erp/sale.*:write when office"]),
        ("sale.*: read, write", "sale.sale: read, write", ["- clerk may no longer erp/sale.*:read when office", "- clerk may no longer erp/sale.*:write when office"]),
        (", when: office", "", ["+ clerk may now erp/sale.*:read", "+ clerk may now erp/sale.*:write"]),
        ("when: office", "when: [office, home]", ["- clerk may erp/sale.*:read now only when office + home", "- clerk may erp/sale.*:write now only when office + home"]),
        (", includes: clerk", "", ["- manager may no longer erp/sale.*:read when office", "- manager may no longer erp/sale.*:write when office"]),
        ('may: "erp/sale.report: execute"', "may: []", ["- manager may no longer erp/sale.report:execute"]),
    ],
)  # fmt: skip
def test_what_widens_and_what_narrows_is_told_by_role_and_permission(before, after, changes):
    assert changed(before, after) == changes


def test_a_restriction_is_told_as_what_is_left_at_the_line_that_restricts():
    always, restricted = ROLES.replace(", when: office", ""), ROLES.replace("roles:\n", "roles:\n\n")
    changes = [one for one in diff(plan_of(always), plan_of(restricted)) if one.permission == "erp/sale.*:read"]
    assert [(one.widens, one.text) for one in changes] == [
        (False, "clerk may erp/sale.*:read now only when office (acme.yaml:12)")
    ]


OFFICE = "context office is"
FOR = "for clerk, manager"


@pytest.mark.parametrize(
    "before, after, change",
    [
        ("mon-fri", "mon-sat", f"+ {OFFICE} wider {FOR}; it holds now on Sat at 08:00 Europe/Berlin, from any address"),
        ("08:00-18:00", "09:00-17:00", f"- {OFFICE} narrower {FOR}; it no longer holds on Mon at 08:00 Europe/Berlin, from any address"),
        ("08:00-18:00", "07:00-17:00", f"+ {OFFICE} wider and narrower {FOR}; it holds now on Mon at 07:00 Europe/Berlin, from any address; it no longer holds on Mon at 17:00 Europe/Berlin, from any address"),
        ("zone: Europe/Berlin}\n  night", "zone: UTC}\n  night", f"+ {OFFICE} wider and narrower {FOR}; it holds now on Mon at 17:00 UTC, from any address; it no longer holds on Mon at 08:00 Europe/Berlin, from any address"),
        ("{days: mon-fri,", "{networks: 10.0.0.0/8, days: mon-fri,", f"- {OFFICE} narrower {FOR}; it no longer holds on Mon at 08:00 Europe/Berlin, from 192.0.2.1"),
        ('{days: mon-fri, hours: "08:00-18:00", zone: Europe/Berlin}', "{not: home}", f"+ {OFFICE} wider and narrower {FOR}; it holds now on Mon at 01:00 Europe/Berlin, from 192.0.2.1; it no longer holds on Mon at 08:00 Europe/Berlin, from 203.0.113.0"),
    ],
)  # fmt: skip
def test_a_changed_context_is_told_once_with_whom_it_touches_and_an_example(before, after, change):
    assert changed(before, after) == [change]


def test_a_second_person_in_an_emergency_is_told_with_what_it_means_for_a_role_for_good():
    told = changed("contexts:", "approvals: {break-glass: 2}\ncontexts:")
    assert told == [f"- approvals for a role {how}: 2 instead of 0" for how in ("for good", "in an emergency")]


def test_a_changed_context_names_its_own_line():
    (change,) = diff(plan_of(ROLES), plan_of(ROLES, HEAD.replace("mon-fri", "mon-sat")))
    assert (change.context, change.where, change.text[-14:]) == ("office", "acme.yaml:7", " (acme.yaml:7)")


def test_a_context_that_no_role_asks_for_may_change_unmentioned():
    assert changed("22:00-06:00", "21:00-06:00") == []


def test_a_role_that_goes_or_comes_while_somebody_holds_it_is_told_with_who():
    without, held = ROLES.replace("clerk", "agent"), {"clerk": ("client:shop", "user:anna"), "manager": ("user:ben",)}
    texts = [(one.widens, one.text) for one in diff(plan_of(ROLES), plan_of(without), held)]
    assert (False, "role clerk is gone, still held by client:shop, user:anna (acme.yaml:11)") in texts
    texts = [(one.widens, one.text) for one in diff(plan_of(without), plan_of(ROLES), held)]
    assert (True, "role clerk is there, and already held by client:shop, user:anna (acme.yaml:11)") in texts


def test_of_many_who_hold_a_role_the_first_are_named():
    held = {"clerk": tuple(f"user:u{n:02}" for n in range(12))}
    (told,) = [one.text for one in diff(plan_of(ROLES), plan_of(""), held) if "is gone" in one.text]
    assert told.endswith("user:u09 and 2 more (acme.yaml:11)")


def test_the_first_policy_widens_from_nothing():
    assert told(None, ROLES) == [
        "+ erp.example.com leads to the system erp at http://127.0.0.1:8000",
        "+ shop.example.com leads to the system shop at https://shop.internal",
        "+ clerk may now erp/sale.*:read when office",
        "+ clerk may now erp/sale.*:write when office",
        "+ manager may now erp/sale.*:read when office",
        "+ manager may now erp/sale.*:write when office",
        "+ manager may now erp/sale.report:execute",
    ]


def test_a_change_names_the_line_that_makes_it():
    (change,) = diff(plan_of(ROLES), plan_of(ROLES.replace("read, write", "read, write, delete")))
    assert (change.role, change.permission, change.context, change.where) == (
        "clerk",
        "erp/sale.*:delete",
        "office",
        "acme.yaml:11",
    )


def test_what_the_erp_is_sent_as_its_credential_is_told():
    at = "at: shop.example.com"
    assert changed(at, f"{at}, hand-over: key, sends: 'X-Key: {{key}}'") == [
        "+ the system shop has hand-over key instead of none",
        "+ the system shop has sends x-key: {key} instead of none",
    ]


@pytest.mark.parametrize(
    "before, after, change",
    [
        ("http://127.0.0.1:8000", "http://10.0.0.1", "+ the system erp has upstream http://10.0.0.1 instead of http://127.0.0.1:8000"),
        ("database: acme", "database: acme, hand-over: none", "+ the system erp has hand-over none instead of session"),
        ("database: acme", "database: other", "+ the system erp has database other instead of acme"),
        ("database: acme", 'database: acme, audience: "urn:erp"', "+ the system erp has audience urn:erp instead of https://erp.example.com"),
        ("at: shop.example.com", 'at: shop.example.com/b, audience: "https://shop.example.com"', "+ the system shop has prefix /b instead of none"),
        ("contexts:", "when-owner-leaves: stay\ncontexts:", "+ when the person behind a client is disabled the client will stay"),
        ("contexts:", "when-silent: keep\ncontexts:", "+ when control is silent the gate will go on as it was for ever, and no revocation and no block reaches it meanwhile"),
        ("contexts:", "when-silent: ask\ncontexts:", "+ when control is silent the gate will ask the guard about every caller"),
        ("contexts:", "when-silent: keep 1 hour\ncontexts:", "+ when control is silent the gate will go on as it was for 3600 s, and no revocation and no block reaches it meanwhile"),
        ("contexts:", "approvals: {roles: 2}\ncontexts:", "- approvals for a role for good: 2 instead of 0"),
        ("contexts:", "approvals: {policy: 1}\ncontexts:", "- approvals for a change of the policy: 1 instead of 0"),
        ("contexts:", "response: {guesses: 9/minute}\ncontexts:", "+ more than 9 failures a minute are guessing, instead of 5"),
        ("contexts:", "response: {block: 1 hour}\ncontexts:", "- who guesses is blocked for 3600 s at first, instead of 600"),
        ("contexts:", "response: {spare: 10.0.0.0/8}\ncontexts:", "+ who guesses from 10.0.0.0/8 is never blocked"),
        ("contexts:", "limits: {default: {body: 20 MB}}\ncontexts:", "+ bodies up to 20 MB instead of 10 MB"),
        ("contexts:", "limits: {default: {body: 512 KB}}\ncontexts:", "- bodies up to 0.5 MB instead of 10 MB"),
        ("contexts:", "limits: {default: {requests: 2000/hour}}\ncontexts:", "+ limit default: 2000/hour instead of 1000/hour"),
        ("contexts:", "limits: {anonymous: {requests: 6/minute}}\ncontexts:", "- limit anonymous: 6/minute instead of 60/minute"),
        ("contexts:", "limits: {anonymous: {requests: 1/second}}\ncontexts:", "- limit anonymous: 1/second instead of 60/minute"),
        ("contexts:", "limits: {clerk: {requests: 1/hour}}\ncontexts:", "- limit clerk: 1/hour instead of 1000/hour"),
    ],
)  # fmt: skip
def test_what_stands_around_the_roles_is_told_too(before, after, change):
    assert changed(before, after) == [change]


@pytest.mark.parametrize(
    "before, after, change",
    [
        ("", "2026-12-31T18:00+01:00", "+ the system erp is observed: until 2026-12-31 17:00 UTC whoever the ERP itself lets in may do all there"),
        ("2026-12-31T18:00Z", "2026-12-31T18:01Z", "+ the system erp is observed: until 2026-12-31 18:01 UTC whoever the ERP itself lets in may do all there"),
        ("2026-12-31T18:00Z", "2026-12-31T17:59Z", "- the system erp is observed: until 2026-12-31 17:59 UTC whoever the ERP itself lets in may do all there"),
        ("2026-12-31T18:00Z", "", "- the system erp is observed no longer: only what the policy grants passes"),
        ("2026-12-31T18:00Z", "2026-12-31T19:00+01:00", None),
    ],
)  # fmt: skip
def test_observing_widens_everything_and_its_end_narrows(before, after, change):
    old, new = (f'database: acme, observe-until: "{one}"' if one else "database: acme" for one in (before, after))
    assert changed(old, new, head=HEAD.replace("database: acme", old)) == ([change] if change else [])


def test_a_system_that_is_observed_from_its_first_day_says_so():
    (told,) = (one for one in diff(None, plan_of("", HEAD.replace("database: acme", 'database: acme, observe-until: "2026-12-31T18:00Z"'))) if "observed" in one.text)  # fmt: skip
    assert told.widens


def test_a_system_that_comes_or_goes_is_told():
    shop = next(line for line in HEAD.splitlines(keepends=True) if "shop:" in line)
    without = HEAD.replace(shop, "")
    (gone,) = diff(plan_of(ROLES), plan_of(ROLES, without))
    (new,) = diff(plan_of(ROLES, without), plan_of(ROLES))
    assert (gone.widens, gone.text) == (False, "the system shop is not reached any more")
    assert (new.widens, new.text) == (
        True,
        "shop.example.com leads to the system shop at https://shop.internal (acme.yaml:4)",
    )


def test_a_limit_of_a_role_that_is_taken_away_is_told():
    limits = "limits: {clerk: {requests: 9000/hour}}\n"
    assert told(ROLES + limits, ROLES) == ["- limit clerk: 1000/hour instead of 9000/hour"]


SECOND_LIMIT = "limits: {clerk: {requests: 10/hour}%s}\n"


@pytest.mark.parametrize(
    "limit, change",
    [
        ("900/hour", "+ limit manager: 900/hour instead of 1000/hour, for who holds clerk too of 10/hour"),
        ("1000/hour", "+ limit manager: 1000/hour instead of 1000/hour, for who holds clerk too of 10/hour"),
        ("9/hour", "- limit manager: 9/hour instead of 1000/hour"),
    ],
)  # fmt: skip
def test_a_new_limit_widens_that_of_who_holds_a_role_with_a_smaller_one(limit, change):
    before, after = (ROLES + SECOND_LIMIT % one for one in ("", f", manager: {{requests: {limit}}}"))
    assert told(before, after) == [change]
    plans = [plan_of(one) for one in (before, after)]
    was, now = (limit_of(plan, {"clerk", "manager"}).requests for plan in plans)
    assert (now > was) is (change[0] == "+")


APART = 'apart: [{name: two, permissions: ["erp/a: write", "erp/b.*: execute"], within: 30 days, link: c}]\n'
NEVER = 'never: [{name: no, level: partner, roles: clerk, may: ["erp/a.*: read, write"]}]\n'
TWO, KEPT = "'two' is", "erp/a:write and erp/b.*:execute"


@pytest.mark.parametrize(
    "rule, before, after, changes",
    [
        (APART, APART, "", [f"+ {TWO} no longer kept apart: {KEPT}"]),
        (APART, "30 days", "10 days", [f"+ {TWO} kept apart less than before: {KEPT}"]),
        (APART, "30 days", "40 days", [f"- {TWO} kept apart more than before: {KEPT}"]),
        (APART, ", link: c", "", [f"+ {TWO} kept apart less than before: {KEPT}", f"- {TWO} kept apart more than before: {KEPT}"]),
        (APART, "b.*", "b.c", [f"+ {TWO} kept apart less than before: {KEPT}"]),
        (APART, "name: two", "name: 2", []),
        (NEVER, NEVER, "", ["+ never 'no' is no longer proved as it was"]),
        (NEVER, "roles: clerk, ", "", ["+ never 'no' is no longer proved as it was"]),
        (NEVER, "a.*: read, write", "a.*: read", ["+ never 'no' is no longer proved as it was"]),
        (NEVER, "a.*: read, write", "a.*: read, write, delete", ["- never 'no' is proved from now on"]),
        (NEVER, "a.*", "*", ["- never 'no' is proved from now on"]),
        (NEVER, "name: no", "name: other", []),
    ],
)  # fmt: skip
def test_a_rule_that_holds_people_back_is_compared_by_what_it_holds(rule, before, after, changes):
    assert changed(before, after, ROLES + rule) == changes


CARRIER = """\
roles:
  carrier: {level: partner, may: ["erp/sale.sale: read"]}
%s: [{name: no, level: partner, roles: [%s], may: ["erp/a.b: read"]}]
"""
USER = "level: user, of: sales,"


@pytest.mark.parametrize("kind, by_name", [("never", ""), ("never", "carrier"), ("always", "")])
def test_a_role_does_not_leave_a_statement_by_its_level_without_a_word(kind, by_name):
    before = (CARRIER % (kind, by_name)).replace("roles: [], ", "")
    if kind == "always":
        before = before.replace("sale.sale", "a.b")
    after = before.replace("level: partner,", USER, 1)
    sign = "- " if kind == "always" else "+ "
    moved = [f"{kind} 'no' is no longer proved of role carrier"] * (not by_name)
    assert set(told(before, after)) == {
        *(f"{sign}{one}" for one in moved),
        f"{'-' if by_name else sign[0]} role carrier has the level user instead of partner",
        "- role carrier has the department sales instead of none",
    }
    back = [f"- {kind} 'no' is proved from now on of role carrier"] * (not by_name)
    assert set(told(after, before)) == {
        *back, "- role carrier has the level partner instead of user", "- role carrier has the department none instead of sales",
    }  # fmt: skip


def test_a_statement_that_speaks_of_the_new_level_too_still_holds_for_the_role():
    before = CARRIER.replace("roles: [%s], ", "") % "never"
    both = before.replace("\nnever: [", '\nnever: [{name: too, level: user, may: "erp/*: read, write"}, ')
    assert not [one for one in told(before, both.replace("level: partner,", USER, 1)) if "longer" in one]


def test_a_rule_without_within_has_no_order():
    static = APART.replace(", within: 30 days, link: c", "")
    assert (
        told(static, static.replace('"erp/a: write", "erp/b.*: execute"', '"erp/b.*: execute", "erp/a: write"')) == []
    )


def with_shop(paths):
    routes = load(b'{"openapi": "3.1.0", "info": {}, "paths": {%s}}' % paths, "shop").routes
    return compile_policy(policy_of(ROLES), {"shop": routes})


def test_what_urls_mean_is_told_where_it_changes():
    old = with_shop(b'"/a": {"get": {"tags": ["a"]}, "post": {"tags": ["a"]}}, "/b": {"get": {"tags": ["b"]}}')
    new = with_shop(
        b'"/a": {"get": {"tags": ["x"]}, "post": {"tags": ["a"], "parameters": [{"name": "q", "in": "query", "schema": {}}]}}, "/c": {"get": {"tags": ["c"]}}'
    )
    assert [(one.widens, one.text) for one in diff(old, new)] == [
        (True, "GET /a is shop/x:read instead of shop/a:read"),
        (True, "GET /c is opened: shop/c:read"),
        (True, "what may be sent with POST /a is described otherwise: shop/a:write"),
        (False, "GET /b is closed: shop/b:read"),
    ]


def test_many_operations_are_told_as_a_number():
    new = with_shop(b", ".join(b'"/n%d": {"get": {"tags": ["n"]}}' % n for n in range(21)))
    (change,) = diff(with_shop(b""), new)
    assert change.text == "21 operations are opened, among them: GET /n0 is opened: shop/n:read"


# --- over random plans: whatever the evaluator newly allows is told, and to whom

contexts = st.sampled_from(["", "office", "night", "home", "early", "late"])
lines = st.lists(
    st.tuples(
        st.sampled_from(["sale.*", "sale.sale", "sale.line", "*"]), st.sampled_from(["read", "write", "write create"])
    ),
    max_size=3,
)
roles = st.fixed_dictionaries(
    {name: st.tuples(lines, contexts, st.lists(st.sampled_from("abc"), max_size=2)) for name in "abc"}
)
MORE = (
    HEAD
    + '  early: {hours: "06:00-12:00", zone: Europe/Berlin}\n  late: {days: wed-sun, hours: "12:00-23:00", zone: UTC}\n'
)
facts = st.tuples(
    st.datetimes(datetime(2026, 3, 2), datetime(2026, 3, 16)),  # noqa: DTZ001  made aware below
    st.sampled_from(["203.0.113.7", "198.51.100.1"]),
    st.sampled_from(["sale.sale", "sale.line", "party.party"]),
    st.sampled_from([(Verb.READ, ""), (Verb.WRITE, "create"), (Verb.WRITE, "write")]),
    st.frozensets(st.sampled_from("abc"), min_size=1),
)


OTHERWISE = MORE.replace("08:00-18:00", "10:00-19:00").replace("203.0.113.0/24,", "").replace("days: wed-sun, ", "")


def drawn_plan(drawn, head=MORE):
    text = "roles:\n"
    for name, (may, when, includes) in drawn.items():
        told = [f'"erp/{object_}: {verb}"' for object_, verb in may]
        below = ", ".join(sorted({one for one in includes if one < name}))
        text += f"  {name}: {{level: system, includes: [{below}], may: [{', '.join(told)}]{f', when: {when}' if when else ''}}}\n"
    return plan_of(text, head)


@settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
@given(roles, roles, st.sampled_from([MORE, OTHERWISE]), st.lists(facts, min_size=8, max_size=8))
def test_whatever_is_newly_allowed_or_refused_is_told_for_a_role_that_the_caller_holds(before, after, head, asked):
    old, new = drawn_plan(before), drawn_plan(after, head)
    changes = diff(old, new)
    for at, source, name, (verb, action), held in asked:
        operation = Operation(system="erp", object=name, verb=verb, action=action)
        one = Facts(system="erp", here=Circumstances(at=at.replace(tzinfo=UTC), source=ip_address(source)), roles=held, scopes=frozenset({f"erp/*:{verb}"}), operations=(operation,))  # fmt: skip
        was, now = decide(old, one).allowed, decide(new, one).allowed
        event(f"{was} -> {now}")
        if was is now:
            continue
        plan = new if now else old
        reached = {name for role in plan.roles if role.name in held for name in role.closure}
        grants = [grant for grant in plan.grants if grant.pattern.holds(operation) and grant.role in reached]
        permissions, contexts = {str(grant.pattern) for grant in grants}, {grant.context.name for grant in grants}
        assert any(
            (change.widens is now and change.role in reached and change.permission in permissions)
            or (f"; it {'holds now' if now else 'no longer holds'} on " in change.text and change.context in contexts)
            or (
                head is OTHERWISE
                and f"; it {'holds now' if now else 'no longer holds'} " in change.text
                and change.context in contexts
            )
            for change in changes
        )


@settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
@given(st.deferred(lambda: formulas), st.deferred(lambda: formulas))
def test_an_example_is_one_and_there_is_none_where_the_other_is_implied(one, other):
    found = counterexample(one, other)
    if found is not None:
        assert holds(one, found)
        assert not holds(other, found)
    assert not (found and implies(one, other))


@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(roles)
def test_a_plan_against_itself_is_no_change(drawn):
    assert diff(drawn_plan(drawn), drawn_plan(drawn)) == ()


some_hours = st.builds(
    Hours,
    days=st.lists(st.integers(0, 6), min_size=1, unique=True).map(tuple),
    start=st.integers(0, 1439),
    end=st.integers(0, 1440),
    zone=st.sampled_from(["UTC", "Europe/Berlin"]),
).filter(lambda hours: hours.start != hours.end)
some_networks = st.builds(
    Networks, networks=st.lists(st.sampled_from(["203.0.113.0/24", "203.0.113.0/25", "203.0.113.128/25", "10.0.0.0/8", "2001:db8::/32", "::/0", "0.0.0.0/0"]), min_size=1).map(tuple)
)  # fmt: skip
formulas = st.recursive(
    some_hours | some_networks | st.just(Always()) | st.just(Hours(days=tuple(range(7)), start=0, end=1440, zone="UTC")),
    lambda inner: st.builds(All, parts=st.lists(inner, max_size=3).map(tuple)) | st.builds(AnyOf, parts=st.lists(inner, max_size=2).map(tuple)) | st.builds(Not, part=inner),
    max_leaves=4,
)  # fmt: skip


@settings(deadline=None, max_examples=400, suppress_health_check=list(HealthCheck))
@given(formulas, formulas, st.datetimes(datetime(2026, 3, 2), datetime(2026, 4, 2)), st.sampled_from(["203.0.113.7", "203.0.113.200", "2001:db8::1"]))  # noqa: DTZ001  # fmt: skip
def test_what_is_implied_holds_whenever_the_other_does(one, other, at, source):
    assume(implies(one, other))
    now = Circumstances(at=at.replace(tzinfo=UTC), source=ip_address(source))
    assert holds(other, now) or not holds(one, now)


half_hours = some_hours.map(lambda hours: msgspec.structs.replace(hours, start=hours.start // 30 * 30, end=hours.end // 30 * 30, zone="UTC")).filter(lambda hours: hours.start != hours.end)  # fmt: skip
HALF_HOURS = [datetime(2026, 1, 5, tzinfo=UTC) + timedelta(minutes=30 * n) for n in range(7 * 48)]


@settings(deadline=None, max_examples=100)
@given(half_hours, half_hours)
def test_hours_imply_just_those_hours_that_hold_at_all_their_times(one, other):
    def held(hours):
        return {at for at in HALF_HOURS if holds(hours, Circumstances(at=at, source=ip_address("::1")))}

    assert implies(one, other) is (held(one) <= held(other))


@pytest.mark.parametrize("day", range(7))
def test_the_hours_after_midnight_count_also_those_of_the_last_night_of_the_week(day):
    night = Hours(days=(day,), start=1320, end=360, zone="UTC")
    evening, morning = (
        msgspec.structs.replace(night, end=1440),
        Hours(days=((day + 1) % 7,), start=0, end=360, zone="UTC"),
    )
    assert implies(evening, night)
    assert implies(morning, night)
    assert not implies(night, evening)


def grant(rest):
    return f'roles: {{clerk: {{level: system, may: [{{do: "erp/sale.sale: write"{rest}}}], when: office}}}}\n'


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ("", ", fields: [a, b]", ["- clerk may erp/sale.sale:write now only when office for the fields a, b"]),
        (
            ", fields: [a]",
            "",
            [
                "+ clerk may now erp/sale.sale:write when office",
                "+ whoever holds clerk and writes in erp may now write all that it computes",
            ],
        ),
        (", fields: [a, b]", ", fields: [b, a]", []),
        (
            ", fields: [a]",
            ", fields: [a, b]",
            ["+ clerk may now erp/sale.sale:write when office for the fields a, b"],
        ),
        (
            ', where: {amount: "<= 50"}',
            ', where: {amount: "<= 5"}',
            ["- clerk may erp/sale.sale:write now only when office for records with amount <= 5"],
        ),
        (
            ', where: {amount: "<= 5"}',
            ', where: {amount: "<= 50"}',
            ["+ clerk may now erp/sale.sale:write when office for records with amount <= 50"],
        ),
        (
            ', where: {amount: ">= 5"}',
            ', where: {amount: ">= 1"}',
            ["+ clerk may now erp/sale.sale:write when office for records with amount >= 1"],
        ),
        (
            ", where: {y: own, state: [a, b]}, fields: [n]",
            ", where: {state: [b, a], y: own}, fields: [n]",
            [],
        ),
        (
            ", where: {y: own}",
            ", where: {y: [own, own]}",
            [],
        ),
        (
            ", where: {y: own}",
            ", where: {x: own}",
            [
                "+ clerk may now erp/sale.sale:write when office for records with x own",
                "- clerk may erp/sale.sale:write now only when office for records with x own",
            ],
        ),
        (
            ", fields: [n], where: {state: [a, b]}",
            ", fields: [n], where: {state: a}",
            ["- clerk may erp/sale.sale:write now only when office for the fields n of records with state in a"],
        ),
    ],
)  # fmt: skip
def test_fewer_fields_and_records_narrow_and_more_widen(before, after, changes):
    assert told(grant(before), grant(after)) == changes


BOUNDED = """roles:
  booker: {{level: user, of: sales, includes: desk, may: ["erp/sale.line: read, write"{0}]}}
  lister: {{level: user, of: sales, may: ["erp/sale.line: read"{1}]}}
  desk: {{level: user, of: sales, may: ["erp/sale.line: read"{2}], when: office}}
"""
LINE, ALL = ', {do: "erp/sale.sale: write", fields: [note]}', ', "erp/sale.*: write"'


@pytest.mark.parametrize(
    ("before", "after", "holds", "passes"),
    [
        ((LINE, "", ""), ("", "", ""), ["booker"], True),
        (("", LINE, ""), ("", "", ""), ["lister"], True),
        ((LINE, "", ""), (LINE, "", ALL), ["booker"], True),
        ((LINE, "", LINE), (LINE, "", ""), ["desk"], False),  # who holds it without the other
        (("", "", ""), (LINE, "", ""), [], False),
        ((LINE, "", ""), (LINE.replace("fields: [note]", "where: {state: draft}"), "", ""), [], False),
    ],
)
def test_a_line_that_goes_and_held_back_what_the_erp_computes_is_told_as_widening(before, after, holds, passes):
    old, new = (BOUNDED.format(*lines) for lines in (before, after))
    computed = [one for one in told(old, new) if "computes" in one]
    assert computed == [f"+ whoever holds {one} and writes in erp may now write all that it computes" for one in holds]
    assert _computed_passes(old) is (before == ("", "", ""))
    assert _computed_passes(new) is passes


def _computed_passes(text):
    field = frozenset({"total"})
    does = Operation(
        system="erp", object="sale.line", verb=Verb.WRITE, action="write", ids=("1",), fields_written=field,
        fields_computed=field, sent=frozenset({frozenset({("total", "3")})}),
    )  # fmt: skip
    here = Circumstances(at=datetime(2026, 3, 2, 10, tzinfo=UTC), source=ip_address("127.0.0.1"))
    roles = frozenset({"booker", "lister"})
    facts = Facts(system="erp", here=here, roles=roles, scopes=frozenset({"erp/*:write"}), operations=(does,))
    return decide(plan_of(text), facts).allowed


def test_nothing_is_told_of_computed_fields_where_no_role_writes_all_of_an_object():
    before = BOUNDED.format(LINE, "", "").replace("read, write", "read")
    assert not [one for one in told(before, before.replace(LINE, "")) if "computes" in one]
