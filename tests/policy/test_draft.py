"""Whatever a source says, a draft is a policy that parses, and opens nothing that the source did not name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.erp.catalogue import Role
from ostiary.policy.draft import draft
from ostiary.policy.model import Kind
from ostiary.policy.parse import parse

HEAD = (
    "policy: test",
    'systems: {erp: {kind: tryton, at: erp.example.com, upstream: "http://127.0.0.1:1", database: erp}}',
    "departments: {sales: {}}",
)
WORDS = st.text(max_size=30) | st.sampled_from(
    [
        'x\n  root: {level: system, may: ["erp/*: write"]}',
        "default",
        "",
        "é",
        "\u202e",
        "a: b",
        "#",
        "---",
        "\x85a: b",
        "\u2028root:",
    ]
)
PERMISSIONS = st.builds("{}/{}:{}".format, st.sampled_from(["erp", "shop", "*"]), WORDS, WORDS) | st.sampled_from(
    ["erp/a.b:read", "erp/a.b:execute.go", "erp/a.b:write.create", "erp/*:read", "erp/a.*:read", "erp/a:read, write"]
)
ROLES = st.lists(
    st.builds(
        Role, name=WORDS, may=st.dictionaries(PERMISSIONS, WORDS, max_size=4), notes=st.lists(WORDS, max_size=2).map(tuple),
        includes=st.lists(WORDS, max_size=2).map(tuple), department=st.sampled_from(["", "sales"]),
    ),
    max_size=4, unique_by=lambda role: role.name,
)  # fmt: skip


def drafted(*roles, notes=()):
    text = draft(HEAD, roles, notes)
    parsed = parse(text, "draft")
    return text, parsed.policy


def test_a_role_says_why_each_line_is_there_and_is_of_the_narrowest_level():
    text, policy = drafted(Role(name="Sales Team", may={"erp/sale.sale:write.create": "its right"}), notes=["look"])
    assert text.startswith("# look\n")
    assert '- "erp/sale.sale: write create" # its right' in text
    (role,) = policy.roles
    assert (role.name, role.level) == ("sales-team", "partner")


def test_a_known_department_makes_it_a_users_role():
    _, policy = drafted(Role(name="a", may={"erp/a:read": "."}, department="sales"))
    assert (policy.roles[0].level, policy.roles[0].department) == ("user", "sales")


def test_included_roles_keep_their_names_and_no_two_roles_share_one():
    _, policy = drafted(
        Role(name="Team A", may={"erp/a:read": "."}), Role(name="team-a", may={"erp/b:read": "."}, includes=("Team A",)),
        Role(name="default", may={"erp/c:read": "."}),
    )  # fmt: skip
    assert [(role.name, role.includes) for role in policy.roles] == [
        ("team-a", ()), ("team-a-1", ("team-a",)), ("role-default", ()),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "permission", ["erp/*:read", "erp/sale.*:read", "erp/a b:read", "erp/a:read, write", "erp/Ü:read"]
)
def test_a_name_that_would_mean_more_or_nothing_is_left_out_and_told(permission):
    text, policy = drafted(Role(name="a", may={permission: ".", "erp/a:delete": "."}))
    assert f"can hold it: {permission}" in text
    assert [str(one) for may in policy.roles[0].may for one in may.patterns] == ["erp/a:delete"]


def test_nothing_at_all_is_a_policy_without_roles():
    assert drafted()[1].roles == ()


@given(st.lists(WORDS, max_size=3), ROLES, st.sampled_from(["", "sales"]))
def test_whatever_words_a_source_uses_it_grants_only_what_it_names(notes, roles, department):
    roles = [Role(name=one.name, may={p: w for p, w in one.may.items() if p.startswith("erp/")}, notes=one.notes,
                  includes=one.includes, department=department) for one in roles]  # fmt: skip
    included = {one.name: one.includes for one in roles}
    roles = [
        one for one in roles if not any(included.get(name) for name in one.includes) and one.name not in one.includes
    ]
    text, policy = drafted(*roles, notes=notes)
    assert policy is not None, parse(text, "draft").problems
    said = {permission for role in roles for permission in role.may}
    granted = {str(one) for role in policy.roles for may in role.may for one in may.patterns}
    assert granted <= said
    assert not any("*" in one for one in granted)
    assert len(policy.roles) <= len(roles)
    assert {role.level for role in policy.roles} <= {"user", "partner"}


def test_what_administers_the_erp_is_left_out_and_told():
    text = draft(HEAD, [Role(name="a", may={"erp/res.user:write": ".", "erp/a:write": "."})], [], {"erp": Kind.TRYTON})
    (role,) = parse(text, "draft").policy.roles
    assert [str(one) for may in role.may for one in may.patterns] == ["erp/a:write"]
    assert "left out, for no role of level partner can hold it: erp/res.user:write" in text


@pytest.mark.parametrize("labels", [["a", "a 2", "A!"], ["shop", "shop"], ["a", "a-1", "a", "a-1", "A"]])
def test_whatever_a_source_calls_its_roles_each_has_a_name_of_its_own(labels):
    """One that numbered them in a circle never came to an end; two of one name, a client and a user, made no policy."""
    roles = [Role(name=label, may={f"erp/x{number}:read": "."}) for number, label in enumerate(labels)]
    _, policy = drafted(*roles)
    assert [role.may[0].patterns[0].object for role in policy.roles] == [f"x{n}" for n in range(len(labels))]
    assert len({role.name for role in policy.roles}) == len(labels)
