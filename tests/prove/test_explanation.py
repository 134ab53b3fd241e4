"""Why a request was decided as it was: the policy's own file and line, and what would have allowed it."""

from datetime import UTC, datetime
from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from ostiary.erp.operation import Operation, Verb
from ostiary.plan.decide import Facts, Reason, decide
from ostiary.plan.model import All, AnyOf, Apart, Circumstances, Hours, Mfa, Networks, Not, Recent
from ostiary.prove.questions import SUGGESTIONS_MAX, Asked, explain, signs_in, words
from policy.compiled import plan_of

PLAN = plan_of("""\
roles:
  clerk: {level: user, of: sales, may: "erp/sale.*: read, write", when: [office, home]}
  manager: {level: department, of: sales, includes: clerk, may: "erp/sale.report: execute"}
  auditor: {level: system, may: "erp/account.move: read", when: night}
apart:
  - {name: two, permissions: ["erp/sale.sale: write", "erp/sale.report: execute"], within: 30 days}
""")
READ = Operation(system="erp", object="account.move", verb=Verb.READ)
WRITE = Operation(system="erp", object="sale.sale", verb=Verb.WRITE, action="create")
PAY = Operation(system="erp", object="account.payment", verb=Verb.EXECUTE, action="approve")
TUESDAY, SUNDAY = datetime(2026, 3, 3, 9, tzinfo=UTC), datetime(2026, 3, 1, 9, tzinfo=UTC)
NIGHT = datetime(2026, 3, 3, 23, tzinfo=UTC)
HOME, AWAY = ip_address("203.0.113.7"), ip_address("198.51.100.1")
CONTEXT_LINES = (
    'acme.yaml:7: office: {days: mon-fri, hours: "08:00-18:00", zone: Europe/Berlin}',
    'acme.yaml:9: home: {networks: [203.0.113.0/24, "2001:db8::/32"]}',
)
CLERK_LINE = 'acme.yaml:11: clerk: {level: user, of: sales, may: "erp/sale.*: read, write", when: [office, home]}'


EVERYTHING = frozenset(f"erp/*:{verb}" for verb in Verb)


def facts(*does, roles=("clerk",), scopes=EVERYTHING, **here):
    here = Circumstances(**{"at": TUESDAY, "source": HOME, **here})
    return Facts(system="erp", operations=does, roles=frozenset(roles), scopes=scopes, here=here)


def explained(reason, rule="-", operation=WRITE, *, plan=PLAN, subject="", besides=frozenset(), inside=False, **known):
    told = facts(*filter(None, [operation]), **known)
    more = {"subject": subject, "besides": besides, "inside": inside}
    return explain(plan, Asked(reason=reason, rule=rule, did=operation, facts=told, **more))


def judged(*does, plan=PLAN, **known):
    """Explained as the evaluator itself decides it."""
    told = facts(*does, **known)
    decision = decide(plan, told)
    return explain(
        plan, Asked(reason=decision.reason, rule=decision.rule, did=decision.operation or does[0], facts=told)
    )


def test_an_allowed_request_names_the_line_that_allowed_it():
    told = judged(WRITE)
    assert (told.reason, told.sentence, told.lines) == (
        "allowed",
        "erp/sale.sale:write.create was allowed",
        (CLERK_LINE,),
    )


@pytest.mark.parametrize("operation, given", [(READ, "auditor"), (None, "ROLE")])
def test_who_holds_no_role_is_told_so_with_the_command_that_gives_one(operation, given):
    told = explained(Reason.ROLE, operation=operation, roles=(), subject="client:shop")
    assert told.sentence.endswith(" was refused: the caller holds no role")
    assert told.would_allow[-1] == f"the role is given by `ostiary client roles shop {given}`"


def test_the_command_that_gives_a_role_keeps_those_that_are_held():
    told = explained(Reason.ROLE, operation=READ, subject="user:anna")
    assert told.would_allow[-1] == "the role is given by `ostiary user roles anna clerk auditor`"


def test_a_role_that_apart_keeps_from_the_caller_is_told_as_another_persons_and_given_by_no_command():
    text = """\
roles:
  packer: {level: system, may: "erp/stock.move: write"}
  releaser: {level: system, may: "erp/account.payment: execute approve"}
apart:
  - {name: two, permissions: ["erp/stock.move: write", "erp/account.payment: execute approve"]}
"""
    plan = plan_of(text)
    known = {"operation": PAY, "subject": "client:shop", "plan": plan}
    packer, nothing = frozenset({"packer"}), frozenset()
    for own, besides in ((packer, nothing), (nothing, packer)):
        (told,) = explained(Reason.ROLE, roles=own, besides=besides, **known).would_allow
        assert "; another person may hold it, for apart 'two'" in told
    assert explained(Reason.ROLE, roles=nothing, **known).would_allow[-1].endswith("client roles shop releaser`")


def test_a_refusal_by_role_names_the_callers_roles_and_the_role_and_line_that_would_grant_it():
    told = judged(READ, at=NIGHT)
    assert told.sentence == "erp/account.move:read was refused: no role of the caller (clerk) grants it"
    assert told.lines == (CLERK_LINE,)
    assert told.would_allow == (
        'role auditor, by acme.yaml:13: auditor: {level: system, may: "erp/account.move: read", when: night}',
    )


def test_a_role_that_is_not_enough_is_told_with_what_else_it_takes():
    """Whoever followed the hint was refused once more: by the hour, by the token's scope, by another part of the call."""
    role = 'role auditor, by acme.yaml:13: auditor: {level: system, may: "erp/account.move: read", when: night}'
    hour = "the same request every day from 22:00 to 06:00 Europe/Berlin (night, acme.yaml:13)"
    scope, rest = "a token with a scope that covers erp/account.move:read", "what allows the rest of the call: "
    assert judged(READ).would_allow == (f"{role}, and {hour}",)
    assert judged(READ, scopes=frozenset(), at=NIGHT).would_allow == (f"{role}, and {scope}",)
    assert judged(READ, PAY, at=NIGHT).would_allow == (f"{role}, and {rest}{PAY.permission}",)
    assert judged(READ, WRITE).would_allow == (f"{role}, and {hour}, and {rest}{WRITE.permission}",)
    assert (
        judged(WRITE, READ, at=SUNDAY)
        .would_allow[0]
        .endswith(f"(office + home, acme.yaml:11), and {rest}{READ.permission}")
    )


def test_of_hours_that_hold_and_hours_that_do_not_both_are_told():
    """On a Sunday evening it would be as little allowed as on a Tuesday morning."""
    plan = plan_of("""\
  evening: {hours: "18:00-22:00", zone: UTC}
  workdays: {days: mon-fri, hours: "00:00-24:00", zone: UTC}
roles:
  clerk: {level: user, of: sales, may: "erp/sale.*: write", when: [workdays, evening, home]}
""")
    hours = "on Mon, Tue, Wed, Thu, Fri all day UTC and every day from 18:00 to 22:00 UTC"
    (told,) = judged(WRITE, plan=plan).would_allow
    assert hours in told


@pytest.mark.parametrize(("other", "when", "told"), [
    ('"erp/sale.line: write"', "home", False),  # from where it comes stays as it is
    ('"erp/sale.line: write"', "day", True),
    ('{do: "erp/sale.line: write", fields: note}', "home", True),
])  # fmt: skip
def test_the_rest_of_a_call_is_told_where_it_is_not_sure_to_be_allowed_then(other, when, told):
    line = Operation(system="erp", object="sale.line", verb=Verb.WRITE)
    text = f"""\
  day: {{hours: "06:00-18:00", zone: UTC}}
roles:
  seller: {{level: user, of: sales, may: "erp/sale.sale: write", when: night}}
  liner: {{level: user, of: sales, may: {other}, when: {when}}}
"""
    (way,) = judged(WRITE, line, plan=plan_of(text), roles=("seller", "liner")).would_allow
    assert way.startswith("the same request every day from 22:00")
    assert ("what allows the rest of the call: erp/sale.line:write" in way) is told
    nobody = judged(WRITE, line, plan=plan_of(text), roles=("seller",)).would_allow
    assert nobody[0].endswith("what allows the rest of the call: erp/sale.line:write")


def test_of_a_call_of_which_not_all_was_read_no_step_is_told_as_enough():
    told = Asked(reason=Reason.ROLE, rule="-", did=READ, facts=facts(READ, at=NIGHT), whole=False)
    assert explain(PLAN, told).would_allow[0].endswith(", and what allows the rest of the call: not all of it was read")


def test_a_way_that_takes_more_than_another_is_not_told():
    text = """\
roles:
  clerk: {level: user, of: sales, may: "erp/sale.*: write", when: office}
  night: {level: user, of: sales, may: "erp/sale.*: write", when: night}
"""
    told = judged(WRITE, plan=plan_of(text), roles=("clerk", "night"), scopes=frozenset())
    assert told.would_allow == ("a token with a scope that covers erp/sale.sale:write.create",)


def test_a_field_that_the_erp_computes_is_named_by_a_line_and_not_left_out_of_a_request():
    text = """\
roles:
  clerk: {level: user, of: sales, may: ["erp/sale.sale: write", {do: "erp/sale.line: write", fields: note}]}
"""
    computed = replace(WRITE, action="write", fields_written=frozenset({"total"}), fields_computed=frozenset({"total"}))
    told = judged(computed, plan=plan_of(text))
    assert told.reason == "field"
    assert told.would_allow == ("a line that names in `fields` what is written, as clerk/1, acme.yaml:11, does not",)


def test_a_refusal_that_no_role_would_allow_says_the_line_to_write():
    assert judged(PAY).would_allow == ('a new line in the `may` of a role: "erp/account.payment: execute approve"',)
    assert judged(PAY, roles=()).sentence.endswith("the caller holds no role; no role of the policy grants it")
    assert "no role of the policy" not in judged(READ).sentence


def test_suggestions_are_few():
    plan = plan_of(
        "roles:\n" + "".join(f'  r{n}: {{level: system, may: "erp/account.move: read"}}\n' for n in range(9))
    )
    assert len(judged(READ, plan=plan, roles=()).would_allow) == SUGGESTIONS_MAX


@pytest.mark.parametrize(
    "at, source, would",
    [
        (SUNDAY, HOME, "the same request on Mon, Tue, Wed, Thu, Fri from 08:00 to 18:00 Europe/Berlin (office + home, acme.yaml:11)"),
        (TUESDAY, AWAY, "the same request from 203.0.113.0/24 or 2001:db8::/32 (office + home, acme.yaml:11)"),
        (SUNDAY, AWAY, "the same request on Mon, Tue, Wed, Thu, Fri from 08:00 to 18:00 Europe/Berlin and from 203.0.113.0/24 or 2001:db8::/32 (office + home, acme.yaml:11)"),
    ],
)  # fmt: skip
def test_a_refusal_by_context_says_what_did_not_hold(at, source, would):
    told = judged(WRITE, at=at, source=source)
    assert (told.reason, told.lines, told.would_allow) == ("context", (CLERK_LINE, *CONTEXT_LINES), (would,))


LIMITED = plan_of("""\
roles:
  clerk: {level: user, of: sales, may: "erp/sale.*: read"}
  chief: {level: user, of: sales, includes: [clerk], may: "erp/sale.*: write"}
limits:
  default: {requests: 9/hour, body: 2 MB}
  clerk: {requests: 90/hour}
""")


@pytest.mark.parametrize(
    ("who", "limit", "lines"),
    [
        ({"subject": "client:a", "roles": {"chief"}}, "clerk: 90/hour", ["acme.yaml:15: clerk: {requests: 90/hour}"]),
        ({"subject": "client:a", "roles": {"no"}}, "default: 9/hour", ["acme.yaml:14: default: {requests: 9/hour, body: 2 MB}"]),
        ({"roles": set()}, "anonymous: 60/minute", []),
    ],
)  # fmt: skip
def test_who_asked_too_often_is_told_which_limit_it_was_and_its_line(who, limit, lines):
    told = explained(Reason.RATE_LIMITED, operation=None, plan=LIMITED, **who)
    assert told.sentence.endswith(f"Too many requests, by limits: {limit}")
    assert list(told.lines) == lines
    assert "Retry-After" in told.would_allow[0]


def test_what_is_too_large_is_told_how_large_it_may_be():
    told = explained(Reason.TOO_LARGE, operation=None, plan=LIMITED)
    assert told.sentence.endswith("by limits, body: 2 MB")
    assert told.lines == ("acme.yaml:14: default: {requests: 9/hour, body: 2 MB}",)
    assert explained(Reason.TOO_LARGE, operation=None).lines == ()


def test_what_is_too_large_inside_is_not_told_as_a_body():
    """A thousand operations, or records, in one small request."""
    told = explained(Reason.TOO_LARGE, plan=LIMITED, inside=True)
    assert (told.sentence.endswith("The request is too large"), told.lines) == (True, ())
    assert told.would_allow


def test_a_refusal_by_context_before_the_operation_was_known_speaks_of_the_system():
    told = explained(Reason.CONTEXT, "clerk/1.read", None, at=SUNDAY)
    assert told.sentence.startswith("this request was refused: granted, but not at this time")
    assert len(told.would_allow) == 1


def test_a_refusal_by_scope_names_the_grant_and_asks_for_another_token():
    told = explained(Reason.SCOPE, "clerk/1.write", scopes=frozenset())
    assert told.lines == (CLERK_LINE,)
    assert told.would_allow == ("a token with a scope that covers erp/sale.sale:write.create",)


def test_duties_kept_apart_name_the_rule_and_another_person():
    rule = PLAN.apart[0]
    assert isinstance(rule, Apart)
    told = explained(Reason.APART, "apart/1")
    assert told.lines == (f"{rule.source}: {rule.source.text}",)
    assert told.would_allow == ("the same request by another person, who did not do the first duty to this record",)


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.ALLOWED])
def test_every_refusal_says_what_would_have_allowed_it(reason):
    told = explained(reason, "clerk/1.write", at=SUNDAY)
    assert "was refused" in told.sentence
    assert told.would_allow


@pytest.mark.parametrize(
    "days, start, end, holidays, told",
    [
        (range(5), 480, 1080, (), "on Mon, Tue, Wed, Thu, Fri from 08:00 to 18:00 UTC"),
        (range(7), 480, 1080, (), "every day from 08:00 to 18:00 UTC"),
        (range(7), 1320, 360, (), "every day from 22:00 to 06:00 UTC"),
        ((5, 6), 0, 1440, (), "on Sat, Sun all day UTC"),
        (range(7), 0, 1440, (), "at any time"),
        (range(7), 0, 1440, ("12-25",), "at any time, but for 12-25"),
    ],
)
def test_hours_are_told_as_far_as_they_say_something(days, start, end, holidays, told):
    hours = Hours(days=tuple(days), start=start, end=end, zone="UTC", holidays=holidays)
    assert words(hours) == told


DAY, NEAR, SURE = Hours(days=(5,), start=0, end=1440, zone="UTC"), Networks(networks=("10.0.0.0/8",)), Mfa()


@pytest.mark.parametrize(
    "formula, told",
    [
        (All(parts=(AnyOf(parts=(DAY, NEAR)), SURE)), "({day} or {near}) and {sure}"),
        (AnyOf(parts=(All(parts=(DAY, SURE)), NEAR)), "({day} and {sure}) or {near}"),
        (Not(part=All(parts=(DAY, NEAR))), "not ({day} and {near})"),
        (All(parts=(Not(part=DAY), AnyOf(parts=(NEAR,)))), "not {day} and {near}"),
    ],
)
def test_a_context_that_is_made_of_others_is_told_in_one_meaning(formula, told):
    assert words(formula) == told.format(day=words(DAY), near=words(NEAR), sure=words(SURE))


@pytest.mark.parametrize(
    ("formula", "person"),
    [
        (SURE, True), (Recent(seconds=60), True), (All(parts=(DAY, SURE)), True), (AnyOf(parts=(SURE, SURE)), True),
        (AnyOf(parts=(DAY, SURE)), False), (Not(part=SURE), False), (DAY, False),
    ],
)  # fmt: skip
def test_what_only_a_person_can_meet_is_known(formula, person):
    assert signs_in(formula) is person


@pytest.mark.parametrize(("subject", "machine"), [("client:shop", True), ("user:anna", False)])
def test_a_machine_is_told_that_it_never_meets_what_asks_for_a_sign_in(subject, machine):
    plan = plan_of("""\
  sure: {assurance: mfa}
roles: {clerk: {level: user, of: sales, may: "erp/sale.*: write", when: sure}}
""")
    (would,) = explained(Reason.CONTEXT, "clerk/1", plan=plan, subject=subject).would_allow
    assert ("it never can; a person who holds the role does" in would) is machine


def test_what_of_several_contexts_did_not_hold_is_told_in_one_meaning_too():
    plan = plan_of("""\
  near: {any: [home, night]}
  sure: {assurance: mfa}
roles: {clerk: {level: user, of: sales, may: "erp/sale.*: write", when: [near, sure]}}
""")
    (would,) = judged(WRITE, plan=plan, source=AWAY).would_allow
    assert (
        " request (from 203.0.113.0/24 or 2001:db8::/32 or every day from 22:00 to 06:00 Europe/Berlin) and " in would
    )
