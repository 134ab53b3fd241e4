"""What was seen becomes a role; nothing that is granted in part becomes a grant of all."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from ostiary.control.draft import observed
from ostiary.erp.operation import operation_named
from ostiary.plan.decide import Facts, Reason, Recorded
from ostiary.plan.model import Circumstances
from policy.compiled import plan_of

PLAN = plan_of("""\
roles:
  clerk: {level: user, of: sales, may: [{do: "erp/sale.sale: write", fields: [state]}, "erp/sale.*: read"]}
  payer: {level: user, of: finance, may: ["erp/account.payment: execute approve"]}
""")
AT = datetime(2026, 3, 3, 9, 30, tzinfo=UTC)


def seen(who, *does, roles=("clerk",), reason=Reason.ALLOWED, hours=0, source="203.0.113.7", system="erp"):
    facts = Facts(
        system=system, here=Circumstances(at=AT + timedelta(hours=hours), source=ip_address(source)), roles=frozenset(roles),
        operations=tuple(map(operation_named, does)),
    )  # fmt: skip
    return Recorded("d", who, str(reason), facts, whole=True)


def roles(*found):
    return {role.name: role for role in observed(PLAN, found)}


def test_reading_is_one_right_and_everything_else_is_named_as_it_was_done():
    made = roles(
        seen("client:a", "erp/sale.sale:read.search", "erp/sale.sale:read.read", "erp/account.payment:execute.approve")
    )
    assert set(made["a"].may) == {"erp/sale.sale:read", "erp/account.payment:execute.approve"}
    assert made["a"].may["erp/sale.sale:read"] == "2 times, last 2026-03-03T09:30:00.000Z"


def test_a_grant_of_fewer_fields_becomes_no_grant_of_all():
    made = roles(seen("client:a", "erp/sale.sale:write.write", "erp/sale.sale:read"))["a"]
    assert set(made.may) == {"erp/sale.sale:read"}
    assert "not proposed: erp/sale.sale:write.write, which is granted of the fields state alone" in made.notes


def test_who_did_the_same_shares_a_role_of_their_department_if_it_is_one():
    made = roles(
        seen("user:b", "erp/a:read"),
        seen("user:a", "erp/a:read", hours=2),
        seen("user:c", "erp/b:read", roles=("clerk", "payer")),
    )
    assert made["observed 1"].department == "sales"
    assert made["observed 1"].notes[0] == "seen: user:a, user:b"
    assert made["c"].department == ""


def test_what_was_refused_is_in_no_role_whatever_the_reason():
    assert (
        roles(*(seen("client:a", "erp/a:read", reason=reason) for reason in Reason if reason is not Reason.ALLOWED))
        == {}
    )


def test_a_system_that_is_gone_and_a_call_of_nothing_make_no_role():
    assert roles(seen("client:a", "old/a:read", system="old"), seen("client:b")) == {}


def test_a_role_of_whom_nobody_knows_has_a_name_all_the_same():
    assert list(roles(seen("-", "erp/a:read"))) == ["observed 1"]


def test_hours_and_networks_are_only_notes():
    made = roles(seen("client:a", "erp/a:read"), seen("client:a", "erp/a:read", hours=9, source="2001:db8::1"))["a"]
    assert (
        made.notes[1]
        == 'a context to think about: {days: "tue", hours: "09:00-19:00", zone: UTC}, networks: [2001:db8::/48, 203.0.113.0/24]'
    )
    many = roles(*(seen("client:a", "erp/a:read", source=f"203.0.{n}.1") for n in range(9)))["a"]
    assert many.notes[1].endswith("from many networks")
