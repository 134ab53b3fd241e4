"""From text to a typed policy, or to every problem at once, each with its place and what to write instead."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostiary.erp.operation import Pattern, Verb
from ostiary.policy import node
from ostiary.policy import parse as parser
from ostiary.policy.parse import parse
from ostiary.policy.reader import LINE_MAX_CHARS
from policy.documents import documents
from policy.mutations import mutated, scratched

slow = settings(deadline=None, suppress_health_check=list(HealthCheck))
ERP = '  erp: {kind: tryton, at: erp.example.com, upstream: "http://127.0.0.1:8000", database: acme}\n'
SHOP = '  shop: {kind: openapi, at: api.example.com/shop, upstream: "https://shop.internal", spec: shop.yaml}\n'
ONE = f"policy: acme\nsystems:\n{ERP}"
TWO = ONE + SHOP
BASE = ONE + "departments: {sales: {}}\n"


def told(text):
    """Every problem as (line, column, message, hint)."""
    return [(one.line, one.column, one.message, one.hint) for one in parse(text, "acme.yaml").problems]


def messages(text):
    return [message for _, _, message, _ in told(text)]


def policy(text):
    parsed = parse(text, "acme.yaml")
    assert not parsed.problems, [str(one) for one in parsed.problems]
    return parsed.policy


def test_every_problem_is_told_at_once_in_reading_order_with_its_place_and_what_to_write_instead():
    text = (
        "policy: acme\n"
        "sistems: {}\n"
        "systems:\n"
        "  erp: {kind: trytn, at: https://erp, upstream: erp, database: acme}\n"
        "contexts:\n"
        '  office: {days: mon-fri, hours: "8-18", zone: Europe/Berln}\n'
        "roles:\n"
        '  clerk: {level: user, of: sails, may: ["sale.sale: raed"], when: ofice}\n'
    )
    assert told(text) == [
        (2, 1, "the policy has no key 'sistems'", "systems"),
        (4, 15, "kind can't be 'trytn'", "tryton"),
        (4, 26, "at: 'https://erp' is no place", "erp.example.com or api.example.com/shop, without https:// and port"),
        (4, 49, "upstream: 'erp' is no upstream", '"http://127.0.0.1:8000"'),
        (6, 34, "hours: '8-18' are no hours", '"08:00-18:00", in quotes'),
        (6, 48, "zone: 'Europe/Berln' is no time zone", "Europe/Berlin"),
        (8, 28, "there is no department 'sails'", ""),
        (8, 41, "may: 'raed' is no verb", "read, write, execute or delete"),
        (8, 67, "there is no context 'ofice'", "office"),
    ]


TREE = (
    BASE.replace(
        "departments: {sales: {}}",
        "departments: {company: {}, sales: {of: company}, shop: {of: sales}, tax: {of: company}}",
    )
    + """\
roles:
  staff: {level: user, of: company}
  clerk: {level: user, of: sales}
  seller: {level: user, of: shop}
  taxman: {level: user, of: tax}
  carrier: {level: partner}
  head: {level: department, of: company}
  sales-head: {level: department, of: sales}
  chief: {level: system}
"""
)


LOWER = "a role of its own level or of a lower one"
BRANCH = "a role of its own department, or of one below or above it"


@pytest.mark.parametrize(
    "role, includes, why, instead",
    [
        ("clerk: {level: user, of: sales", "staff", "", ""),
        ("clerk: {level: user, of: sales", "seller", "", ""),
        ("clerk: {level: user, of: sales", "carrier", "", ""),
        ("clerk: {level: user, of: sales", "taxman", "taxman is of tax, which is no part of sales", BRANCH),
        (
            "clerk: {level: user, of: sales",
            "sales-head",
            "a role of level user includes none of level department",
            LOWER,
        ),
        ("clerk: {level: user, of: sales", "chief", "a role of level user includes none of level system", LOWER),
        ("carrier: {level: partner", "clerk", "a role of level partner includes none of level user", LOWER),
        ("sales-head: {level: department, of: sales", "clerk", "", ""),
        ("sales-head: {level: department, of: sales", "seller", "", ""),
        ("sales-head: {level: department, of: sales", "staff", "", ""),
        ("sales-head: {level: department, of: sales", "taxman", "taxman is of tax, which is no part of sales", BRANCH),
        (
            "sales-head: {level: department, of: sales",
            "head",
            "head leads company, of which sales is only a part",
            "a role of company that does not lead it",
        ),
        ("head: {level: department, of: company", "sales-head", "", ""),
        (
            "head: {level: department, of: company",
            "chief",
            "a role of level department includes none of level system",
            LOWER,
        ),
        ("chief: {level: system", "head", "", ""),
    ],
)
@pytest.mark.standard("B2")
def test_a_role_includes_what_belongs_to_it_in_the_tree_of_departments(role, includes, why, instead):
    name = role.partition(":")[0]
    text = TREE.replace(role + "}", f"{role}, includes: [{includes}]}}")
    assert text != TREE
    line = next(n for n, one in enumerate(text.splitlines(), 1) if one.startswith(f"  {name}:"))
    column = text.splitlines()[line - 1].index("[") + 2
    assert told(text) == ([(line, column, f"role {name}: {why}", instead)] if why else [])


@pytest.mark.parametrize("level", ["partner", "user, of: sales", "department, of: sales", "system"])
@pytest.mark.parametrize(
    "line, least",
    [
        ("res.user: read", 0), ("res.user: write", 3), ("res.*: delete", 3), ("ir.*: write", 3), ("ir.rule: write create", 3),
        *((f"{one}: write", 3) for one in ("ir.model", "ir.action.*", "ir.action.report", "ir.ui.view", "ir.ui.*", "ir.sequence", "ir.queue", "ir.email.template")),
        ("ir.ui.view_search: write", 0), ("ir.action.report: read", 0),
        ("ir.attachment: write", 0), ("ir.model.access: read, execute x", 3), ("wizard.*: execute x", 3), ("result: write", 0),
        ("*: read", 3), ("sale.*: read", 1), ("sale.sale: execute", 1), ("sale.sale: execute confirm", 0), ("sale.sale: delete", 0),
    ],
)  # fmt: skip
@pytest.mark.standard("B2")
def test_each_level_holds_so_much_at_most(level, line, least):
    rank = ["partner", "user", "department", "system"].index(level.partition(",")[0])
    found = messages(BASE + f'roles: {{r: {{level: {level}, may: "{line}"}}}}\n')
    assert (found == []) is (rank >= least)


def test_what_administers_tryton_is_any_object_to_another_system():
    text = (
        TWO
        + 'departments: {sales: {}}\nroles: {r: {level: user, of: sales, may: ["shop/res.user: write", "shop/ir.rule: delete"]}}\n'
    )
    assert messages(text) == []


def test_a_problem_names_its_file_and_what_to_write_instead():
    (problem,) = parse(BASE + "role: {}\n", "acme.yaml").problems
    assert str(problem) == "acme.yaml:5:1: the policy has no key 'role'\n    write instead: roles"


def test_a_policy_with_a_problem_is_no_policy():
    assert parse(BASE + "role: {}\n", "acme.yaml").policy is None


@pytest.mark.parametrize("word", ["NO", "no", "on", "null", "true", "12", "1e5", "~", "0x10", "2026-03-03"])
def test_every_value_is_a_text_as_in_yaml_1_2_or_plainer(word):
    assert policy(BASE.replace("acme\n", f"{word}\n", 1)).name == word


def test_a_name_that_looks_like_a_truth_value_is_a_name():
    assert policy(ONE + "departments: {NO: {}, on: {of: NO}}\n").departments == {"NO": (), "on": ("NO",)}


@pytest.mark.parametrize(
    "text, place, message",
    [
        ("policy: a\npolicy: b\n", (2, 1), "'policy' stands already in line 1"),
        ("policy: !!str a\n", (1, 9), "tags such as tag:yaml.org,2002:str are not used here"),
        ("policy: ! a\n", (1, 9), "tags such as ! are not used here"),
        ("policy: &x a\n", (1, 9), "anchors and aliases are not used here"),
        ("policy: a\nsystems: *x\n", (2, 10), "anchors and aliases are not used here"),
        ("policy: a\n<<: {}\n", (2, 1), "the policy has no key '<<'"),
        ("policy: a\n---\npolicy: b\n", (2, 1), "there is a second document"),
        ("policy: a\n? [x]\n: b\n", (2, 3), "a key is a word"),
        ("policy: |\n  a\n", (1, 9), "a text stands in one line"),
        ("policy: a\n  b\n", (1, 9), "a text stands in one line"),
        ('policy: "a\\nb"\n', (1, 9), "'a\\nb' has characters that can't be seen"),
        ("policy: a\n# \u202e\n", (2, 3), "U+202E is a character that can't be seen"),
        ("policy: a\rsystems: {}\n", (1, 10), "U+000D is a character that can't be seen"),
        ("policy: \x1b[31ma\n", (1, 9), "U+001B is a character that can't be seen"),
        ("policy: \ud800\n", (1, 9), "U+D800 is a character that can't be seen"),
        ("\ufeffpolicy: a\n", (1, 1), "U+FEFF is a character that can't be seen"),
        ("", (1, 1), "the document is empty"),
        ("# nothing\n", (1, 1), "the document is empty"),
        ("[a]\n", (1, 1), "the policy is a mapping of names to values"),
        (
            "policy: {a\n",
            (2, 1),
            "this is not YAML: the bracket of line 1 is not closed, or a comma or quotes are missing behind it",
        ),
    ],
)
def test_what_readers_could_read_differently_is_refused_where_it_stands(text, place, message):
    line, column, said, _ = told(text)[0]
    assert ((line, column), said) == (place, message)


def test_line_ends_of_windows_are_line_ends():
    assert policy(BASE.replace("\n", "\r\n")).systems[0].source.line == 3


def test_a_document_just_below_its_size_is_read_and_one_byte_more_is_not():
    filled = BASE + "#" + "x" * (node.TEXT_MAX_BYTES - len(BASE) - 2) + "\n"
    assert messages(filled) == []
    assert messages(filled + "\n") == [f"the document is larger than {node.TEXT_MAX_BYTES} bytes"]


def test_the_size_is_counted_in_bytes():
    assert messages("policy: a\n#" + "é" * (node.TEXT_MAX_BYTES // 2)) != []


def test_a_document_as_deep_as_allowed_is_read_and_one_deeper_is_not():
    deep = "policy: " + "[" * (node.DEPTH_MAX - 1) + "]" * (node.DEPTH_MAX - 1)
    assert messages(deep) == ["policy is a text"]
    assert messages(deep.replace("[]", "[[]]")) == ["the document is nested too deeply or too large"]


def test_as_many_values_as_allowed_are_read_and_one_more_is_not(monkeypatch):
    count = 3 + 2 * 4
    text = "policy: a\n" + "".join(f"k{n}: b\n" for n in range(4))
    monkeypatch.setattr(node, "NODES_MAX", count)
    assert "the document is nested too deeply or too large" not in messages(text)
    assert messages(text + "x: y\n") == ["the document is nested too deeply or too large"]


def test_grants_that_would_hold_too_many_values_of_their_contexts_are_refused(monkeypatch):
    """The plan holds them again for each grant: half a megabyte of policy were seven hundred of plan."""
    contexts = "contexts: {far: {networks: [10.0.0.0/8, 192.0.2.0/24]}, either: {any: [far]}}\n"
    roles = 'roles:\n  a: {level: user, of: sales, may: ["x: read, write"], when: far}\n  b: {level: user, of: sales, may: ["x: read"], when: either}\n'
    monkeypatch.setattr(parser, "VALUES_MAX", 6)
    assert messages(BASE + contexts + roles) == []
    monkeypatch.setattr(parser, "VALUES_MAX", 5)
    assert told(BASE + contexts + roles) == [
        (
            BASE.count("\n") + 4, 3, "with role b the grants hold more than 5 values of their contexts",
            "larger networks, or fewer lines of `may` in that context",
        )
    ]  # fmt: skip


def test_of_a_long_line_a_grant_is_told_what_begins_there_and_not_all_of_it():
    """A policy of 250 KB in one line was a plan of 6 GB."""
    mays = ", ".join(f'"x{n}: read"' for n in range(500))
    policy = parse(f"{BASE}roles: {{a: {{level: user, of: sales, may: [{mays}]}}}}\n", "acme.yaml").policy
    texts = [may.source.text for may in policy.roles[0].may]
    assert max(map(len, texts)) == LINE_MAX_CHARS
    assert texts[7].startswith('"x7: read", "x8: read"')
    assert texts[-1].startswith('"x499: read"')


def test_a_text_as_long_as_allowed_is_read_and_a_longer_one_is_not():
    assert messages(BASE.replace("acme", "a" * node.SCALAR_MAX_CHARS, 1)) == []
    longer = BASE.replace("acme", "a" * (node.SCALAR_MAX_CHARS + 1), 1)
    assert messages(longer) == [f"the text is longer than {node.SCALAR_MAX_CHARS} characters"]


def test_a_permission_needs_its_system_once_there_are_two():
    line = 'roles: {a: {level: system, may: ["sale.sale: read"]}}\n'
    assert policy(ONE + line).roles[0].may[0].patterns[0].system == "erp"
    assert told(TWO + line) == [(5, 34, "may: 'sale.sale' does not say which system", "erp/sale.sale")]
    assert policy(TWO + line.replace("sale.sale", "shop/sale.sale")).roles[0].may[0].patterns[0].system == "shop"


def test_a_line_of_may_is_one_pattern_for_each_verb():
    (role,) = policy(BASE + 'roles: {a: {level: system, may: "*: read, execute approve, read"}}\n').roles
    assert role.may[0].patterns == (
        Pattern(system="erp", object="*", verb=Verb.READ),
        Pattern(system="erp", object="*", verb=Verb.EXECUTE, action="approve"),
    )


@pytest.mark.parametrize(
    "level, object_, problem",
    [
        ("system", "*", None),
        ("department", "*", "only a role of level system may hold every object, not one of level department"),
        ("user", "*", "only a role of level system may hold every object, not one of level user"),
        ("partner", "*", "only a role of level system may hold every object, not one of level partner"),
        ("department", "sale.*", None),
        ("user", "sale.*", None),
        ("partner", "sale.*", "a role of level partner names each object"),
        ("partner", "sale.sale", None),
    ],
)
def test_a_level_bounds_what_a_role_may_hold(level, object_, problem):
    text = BASE + f'roles: {{a: {{level: {level}, of: sales, may: ["{object_}: read"]}}}}\n'
    assert messages(text) == ([problem] if problem else [])


@pytest.mark.parametrize("level", ["department", "user"])
def test_a_role_of_a_department_says_which(level):
    text = BASE + f"roles: {{a: {{level: {level}}}}}\n"
    assert told(text) == [(5, 9, f"a role of level {level} belongs to a department", "of: DEPARTMENT")]


@pytest.mark.parametrize(
    "section, message",
    [
        ("roles: {a: {level: system, includes: b}, b: {level: system, includes: a}}", "role a includes itself"),
        ("roles: {a: {level: system, includes: a}}", "role a includes itself"),
        ("roles: {a: {level: system, includes: b}}", "there is no role 'b'"),
        ("roles: {default: {level: system}}", "default is a limit's name, so it can't be a role's"),
        ("roles: {a: {level: system, when: []}}", "no context is named"),
        ("roles: {1a: {level: system}}", "roles: '1a' is not a name"),
        ("roles: [a]", "roles is a mapping of names to values"),
        ("contexts: {a: {}}", "context a says nothing"),
        ("contexts: {a: {networks: []}}", "networks names none"),
        ("contexts: {a: {any: []}}", "no context is named"),
        ("contexts: {a: {not: b}}", "there is no context 'b'"),
        ("contexts: {a: {all: a}}", "context a is made of others itself"),
        ("contexts: {a: {any: [b, c]}, b: {not: c}, c: {networks: 10.0.0.0/8}}", "context b is made of others itself"),
        ("contexts: {a: {days: mon}}", "hours need a zone, and days and holidays need both"),
        ("contexts: {a: {holidays: 12-25}}", "hours need a zone, and days and holidays need both"),
        ("contexts: {a: {countries: []}}", "countries names none"),
        ("contexts: {a: {countries: [DE, UK]}}", "countries: 'UK' is no country"),
        ("contexts: {a: {devices: known}}", "devices can't be 'known'"),
        ("contexts: {a: {assurance: otp}}", "assurance can't be 'otp'"),
        ("contexts: {a: {within: 90 days}}", "within: '90 days' is no time up to 30 days"),
        ('contexts: {a: {hours: "08:00-09:00"}}', "hours need a zone, and days and holidays need both"),
        ("limits: {clerk: {requests: 1/hour}}", "there is no role 'clerk'"),
        ("limits: {default: {}}", "limit default says nothing"),
        ("limits: {anonymous: {body: 1 MB}}", "limit anonymous has no key 'body'"),
        ("when-silent: open", "when-silent: 'open' is nothing the gate can do"),
        ("when-silent: keep 31 days", "when-silent: '31 days' is no time up to 30 days"),
        ("response: {}", "response says nothing"),
        ("response: {guesses: 5/hour}", "guesses: '5/hour' is no number of tries in a minute"),
        ("response: {block: 2 days}", "block: '2 days' is longer than a day"),
        ("response: {spare: here}", "spare: 'here' is no network (an address, perhaps with /bits)"),
        (
            "response: {spare: '::ffff:203.0.113.0/120'}",
            "spare: '::ffff:203.0.113.0/120' is a network of IPv4 as IPv6 writes it",
        ),
        ("response: {spare: []}", "spare names none"),
        ("approvals: {}", "approvals says nothing"),
        ("approvals: 1", "approvals is a mapping of names to values"),
        ("approvals: {policy: 0}", "policy: '0' is no number of people from 1 to 9"),
        ("approvals: {break-glass: many}", "break-glass: 'many' is no number of people from 1 to 9"),
        ("approvals: {policies: 1}", "approvals has no key 'policies'"),
        ("apart: [{name: x, permissions: ['a: read']}]", "apart names two permissions"),
        ("apart: [{name: x, permissions: ['a: read', 'b: read'], link: y}]", "a link needs a time"),
        ("never: [{name: x, roles: [], may: 'a: read'}]", "no role is named"),
        ("never: [{name: x, outside: [], may: 'a: read'}]", "a rule of `never` names one context"),
        ("never: [{name: x, outside: night, may: 'a: read'}]", "there is no context 'night'"),
        ("never: [{name: x, when: night, may: 'a: read'}]", "a rule of `never` has no key 'when'"),
        ("always: [{name: x, roles: a, may: 'a: read'}]", "there is no role 'a'"),
        ("always: [{name: x, may: []}]", "`may` of a rule of `always` names nothing"),
        ("always: [{name: x, outside: night, may: 'a: read'}]", "a rule of `always` has no key 'outside'"),
        ("never: [{name: x, level: user, may: []}]", "`may` of a rule of `never` names nothing"),
        ("never: {}", "never is a list"),
        ("tests: [{who: [], does: 'a: read', expect: deny}]", "a test needs the key 'at'"),
    ],
)
def test_a_rule_that_would_mean_nothing_or_something_else_is_a_problem(section, message):
    assert messages(f"{BASE}{section}\n")[0] == message


def test_a_department_is_not_part_of_itself_by_whatever_way():
    text = ONE + "departments: {a: {of: b}, b: {of: c}, c: {of: a}, d: {of: a}}\n"
    assert messages(text) == [f"department {name} is part of itself" for name in "abc"]


def test_duties_are_kept_apart_by_history_only_where_the_system_says_who_made_a_record():
    rule = "apart: [{{name: x, permissions: ['{}/a: write', '{}/b: execute'], within: 30 days}}]\n"
    assert messages(TWO + rule.format("erp", "erp")) == []
    assert messages(TWO + rule.format("shop", "shop")) == ["shop does not say who made a record; only kind tryton does"]
    assert "both duties of a rule with `within` are of one system" in messages(TWO + rule.format("erp", "shop"))
    assert messages(TWO + rule.format("erp", "shop").replace(", within: 30 days", "")) == []


@pytest.mark.parametrize(
    "second, message",
    [
        ('{kind: tryton, at: erp.example.com, upstream: "http://a", database: b}', "b and erp are at the same place"),
        (
            '{kind: tryton, at: b.c, upstream: "http://a", database: b, audience: "https://erp.example.com"}',
            "b and erp have one audience",
        ),
        (
            '{kind: tryton, at: b.c, upstream: "http://a", database: b, audience: shop}',
            "audience: 'shop' is no audience: an absolute URI, so that no client's id can be the same",
        ),
        ('{kind: tryton, at: b.c/d, upstream: "http://a", database: b}', "Tryton answers at its own paths, without a prefix"),
        ('{kind: tryton, at: b.c, upstream: "http://a"}', "a system of kind tryton needs the key 'database'"),
        ('{kind: openapi, at: b.c, upstream: "http://a"}', "a system of kind openapi needs the key 'spec'"),
    ],
)  # fmt: skip
def test_each_system_has_a_place_and_an_audience_of_its_own_and_what_its_kind_needs(second, message):
    assert messages(f"{ONE}  b: {second}\n") == [message]


@pytest.mark.parametrize(
    ("until", "message"),
    [
        ("2026-12-31", "observe-until: '2026-12-31' is no moment"),
        ("2026-12-31T18:00", "observe-until: '2026-12-31T18:00' has no offset from UTC"),
        ("2026-13-31T18:00Z", "observe-until: '2026-13-31T18:00Z' is no moment"),
        ("always", "observe-until: 'always' is no moment"),
        ("", "observe-until is a text"),
    ],
)
def test_observing_ends_at_a_moment(until, message):
    assert messages(ONE.replace("database: acme", f'database: acme, observe-until: "{until}"')) == [message]


def test_one_moment_is_one_revision_however_it_is_written():
    told = {
        policy(ONE.replace("database: acme", f'database: acme, observe-until: "{text}"')).systems[0].observe_until
        for text in ("2026-12-31T18:00+01:00", "2026-12-31T17:00Z", "2026-12-31T17:00:00+00:00")
    }
    assert [one.isoformat() for one in told] == ["2026-12-31T17:00:00+00:00"]
    assert policy(ONE).systems[0].observe_until is None


def test_what_is_left_out_has_a_safe_meaning():
    whole = policy(TWO + 'contexts: {a: {hours: "08:00-09:00", zone: UTC}}\n')
    assert [system.audience for system in whole.systems] == ["https://erp.example.com", "https://api.example.com/shop"]
    assert [system.hand_over for system in whole.systems] == ["session", "none"]
    assert (whole.silent_s, whole.roles, whole.contexts[0].days) == (0, (), (0, 1, 2, 3, 4, 5, 6))


def test_a_mistake_in_one_part_does_not_make_others_look_wrong():
    text = (
        BASE.replace("http://", "ftp://")
        + 'roles: {a: {level: system, may: "erp/a: read", when: c}}\ncontexts: {c: {days: x}}\n'
    )
    assert messages(text) == [
        "upstream: 'ftp://127.0.0.1:8000' is no upstream",
        "hours need a zone, and days and holidays need both",
        "days: 'x' are no days",
    ]


def test_each_rule_knows_its_line():
    (role,) = policy(
        BASE + 'roles:\n  a:\n    level: system\n    may:\n      - "a: read"\n      - "b: read" # why\n'
    ).roles
    assert [(may.source.line, may.source.text) for may in role.may] == [(9, '- "a: read"'), (10, '- "b: read" # why')]
    assert (role.source.line, role.source.text) == (6, "a:")


def lies_inside(text, problem):
    """The place exists; one past the last line is where the end is."""
    lines = text.split("\n")
    assert 1 <= problem.line <= len(lines) + 1
    width = len(lines[problem.line - 1]) if problem.line <= len(lines) else 0
    assert 1 <= problem.column <= width + 1


def check_any(text):
    parsed = parse(text, "acme.yaml")
    assert (parsed.policy is None) is bool(parsed.problems)
    for problem in parsed.problems:
        assert problem.message
        lies_inside(text, problem)


@settings(slow, max_examples=300)
@given(st.text() | st.text(alphabet="policy:systm -[]{}\"'#&*!|>%?,\n\r\t\0\x85\u2028\ufeff\ud800é"))
def test_any_text_gives_a_policy_or_problems_that_stand_in_it(text):
    check_any(text)


@settings(slow, max_examples=200)
@given(st.binary())
def test_any_bytes_give_a_policy_or_problems(data):
    check_any(data.decode("utf-8", "surrogateescape"))
    check_any(data.decode("latin-1"))


@settings(slow, max_examples=200)
@given(scratched() | mutated())
def test_a_policy_with_mistakes_gives_problems_that_stand_in_it(text):
    check_any(text)


@settings(slow, max_examples=50)
@given(documents())
def test_a_policy_that_holds_together_has_no_problem(drawn):
    policy(drawn[0])


GRANT = 'roles: {{clerk: {{level: system, may: [{{do: "erp/sale.sale: {verbs}", {rest}}}]}}}}\n'


@pytest.mark.parametrize(
    ("verbs", "rest", "message"),
    [
        ("read, delete", "fields: [a]", "fields are read and written, not those of delete"),
        ("execute", "fields: a", "fields are read and written, not those of execute"),
        ("read", "fields: []", "no field is named"),
        ("read", "fields: [party.name]", "fields: 'party.name' is no field of the object itself"),
        ("read", "where: {}", "where is a mapping of fields to values"),
        ("read", "where: [a]", "where is a mapping of fields to values"),
        ("read", "where: {a: []}", "a may hold nothing"),
        ("read", 'where: {a: "=< 5"}', "a: '=< 5' is no condition"),
        ("read", 'where: {a: "<= 1e9"}', "a: '<= 1e9' is no condition"),
        ("read", 'where: {a: ["<= 5", "much more"]}', "a: 'much more' is no condition"),
        ("read", "where: {a.b: own}", "where: 'a.b' is no field of the object itself"),
        ("read", "without: [a]", "may has no key 'without'"),
    ],
)
def test_a_grant_that_could_not_be_held_to_is_refused_where_it_stands(verbs, rest, message):
    head = 'policy: p\nsystems: {erp: {kind: tryton, at: e, upstream: "http://h", database: d}}\n'
    problems = parse(head + GRANT.format(verbs=verbs, rest=rest), "acme.yaml").problems
    assert [(one.line, one.message) for one in problems] == [(3, message)]
    assert problems[0].hint


@pytest.mark.parametrize(
    ("verbs", "rest", "message"),
    [
        ("read", "fields: [a]", "erp shows only the fields that are written, not those of read"),
        ("write", "where: {a: own}", "erp does not say what a record holds; only kind tryton does"),
        ("write", "fields: [a]", None),
    ],
)
def test_of_a_described_system_only_what_is_written_can_be_bounded(verbs, rest, message):
    head = 'policy: p\nsystems: {erp: {kind: openapi, at: e, upstream: "http://h", spec: s.yaml}}\n'
    problems = parse(head + GRANT.format(verbs=verbs, rest=rest), "acme.yaml").problems
    assert [one.message for one in problems] == ([message] if message else [])
