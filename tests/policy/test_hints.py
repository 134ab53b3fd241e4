"""What a newcomer gets wrong is told once, as what it is, with what to write."""

import pytest
import yaml

from ostiary.policy import node
from ostiary.policy.parse import parse

BASE = """\
policy: acme
systems: {erp: {kind: tryton, at: erp.example.com, upstream: "http://127.0.0.1:8000", database: acme}}
departments: {sales: {}}
"""
CLERK = "roles: {clerk: {level: user, of: sales, may: MAY}}\n"
LINES = "roles:\n  clerk:\n    level: user\n    of: sales\n    may:\n"
UNQUOTED = "may: the quotes are missing"


def told(text):
    """Every problem as (line, message, hint)."""
    return [(one.line, one.message, one.hint) for one in parse(BASE + text, "acme.yaml").problems]


@pytest.mark.parametrize(
    "text, problems",
    [
        (CLERK.replace("MAY", "[orders: read, write]"), [(4, UNQUOTED, '"orders: read, write"')]),
        (CLERK.replace("MAY", "{orders: read}"), [(4, UNQUOTED, '"orders: read"')]),
        (
            CLERK.replace("MAY", "[a: read, write, b.*: execute approve, delete]"),
            [(4, UNQUOTED, '"a: read, write"'), (4, UNQUOTED, '"b.*: execute approve, delete"')],
        ),
        (
            CLERK.replace("MAY", '[a: read, "b: write"]'),
            [(4, UNQUOTED, '"a: read"')],
        ),
        (
            LINES + "      - orders: read, write\n      - sale.*: read\n",
            [(9, UNQUOTED, '"orders: read, write"'), (10, UNQUOTED, '"sale.*: read"')],
        ),
        (
            LINES + "      orders: read, write\n      sale.*: read\n",
            [(9, UNQUOTED, '"orders: read, write"'), (10, UNQUOTED, '"sale.*: read"')],
        ),
        ("never: [{name: n, may: [a: read, write]}]\n", [(4, UNQUOTED, '"a: read, write"')]),
        (
            "apart: [{name: n, permissions: [a: read, write, b: write]}]\n",
            [
                (4, "permissions: the quotes are missing", '"a: read, write"'),
                (4, "permissions: the quotes are missing", '"b: write"'),
            ],
        ),
        (
            "apart: [{name: n, permissions: [[a: read, write], b: write]}]\n",
            [
                (4, "permissions: the quotes are missing", '"a: read, write"'),
                (4, "permissions: the quotes are missing", '"b: write"'),
            ],
        ),
    ],
)
def test_a_permission_without_its_quotes_is_told_as_just_that(text, problems):
    assert told(text) == problems


def test_what_else_is_wrong_with_a_line_without_quotes_is_told_too():
    assert told(CLERK.replace("MAY", "[shop/orders: read, write]")) == [
        (4, UNQUOTED, '"shop/orders: read, write"'),
        (4, "may: there is no system 'shop'", "erp/orders"),
    ]


@pytest.mark.parametrize(
    "grant", ['{do: "a: read", feilds: [x]}', "{a: {b: read}}", "{does: a}", "{}", "{a: read, b: 1}"]
)
def test_another_mapping_is_no_line_without_quotes(grant):
    assert "quotes" not in str(told(CLERK.replace("MAY", f"[{grant}]")))
    assert told(CLERK.replace("MAY", f"[{grant}]")) != []


@pytest.mark.parametrize(
    "line, message, hint",
    [
        ("orders read, write", "'orders read, write' has no colon", '"orders: read, write"'),
        ("erp/orders execute approve", "'erp/orders execute approve' has no colon", '"erp/orders: execute approve"'),
        ("orders", "'orders' has no verb", '"orders: read"'),
        ("orders all", "'orders all' has no verb", '"orders all: read"'),
        ("read", "'read' has no verb", '"read: read"'),
    ],
)
def test_a_permission_without_colon_or_verb_says_which_of_them(line, message, hint):
    assert told(CLERK.replace("MAY", f'"{line}"')) == [(4, f"may: {message}", hint)]


@pytest.mark.parametrize(
    "level, line, hint",
    [
        ("level: partner", "*: write", '"OBJECT: write"'),
        ("level: user, of: sales", "*: write", '"sale.*: write"'),
    ],
)
def test_who_may_not_hold_every_object_is_told_what_he_may(level, line, hint):
    (problem,) = told(f'roles: {{carrier: {{{level}, may: "{line}"}}}}\n')
    assert problem[2] == hint
    meant = hint.strip('"').replace("OBJECT", "sale.sale")
    assert told(f'roles: {{carrier: {{{level}, may: "{meant}"}}}}\n') == []


@pytest.mark.parametrize(
    "text, line, message, hint",
    [
        ("roles: {a: {level:user, of: sales}}\n", 4, "role a: a space is missing behind the colon", "level: user"),
        ("roles: {a: {levels: user, of: sales}}\n", 4, "role a has no key 'levels'", "level"),
        ('roles: {a: {level: system, may: {do: "sale.*: read", when: x}}}\n', 4, "may has no key 'when'", "`when` beside the role's `may`; a line for another time stands in a role of its own"),
        ('contexts: {a: {hours: ["08:00-12:00", "13:00-18:00"], zone: UTC}}\n', 4, "hours is a text", "one of them alone; for each other an entry of its own"),
        ('roles: {a: {level: system, may: [{do: ["sale.*: read", "party.*: read"], fields: [name]}]}}\n', 4, "do is a text", "one of them alone; for each other an entry of its own"),
        ('contexts: {a: {days: [mon, tue], hours: "08:00-18:00", zone: UTC}}\n', 4, "days is a text", '"mon, tue", in quotes'),
    ],
)  # fmt: skip
def test_a_slip_is_told_alone_and_the_rest_read_as_it_was_meant(text, line, message, hint):
    assert told(text) == [(line, message, hint)]


def test_a_part_that_is_misspelled_is_the_one_problem_that_there_is():
    base = BASE.replace("departments:", "department:") + CLERK.replace("MAY", '"a.b: read"')
    (one,) = parse(base, "acme.yaml").problems
    assert (one.line, one.message, one.hint) == (3, "the policy has no key 'department'", "departments")


def test_of_a_key_and_its_misspelling_the_key_counts():
    assert told('roles: {a: {level: partner, levels: user, may: "a.b: read"}}\n') == [
        (4, "role a has no key 'levels'", "level")
    ]


def test_of_a_described_system_no_object_of_another_erp_is_proposed():
    (one,) = parse(
        "policy: acme\n" + SHOP % "" + 'roles: {a: {level: partner, may: "*: read"}}\n', "acme.yaml"
    ).problems
    assert one.hint == '"OBJECT: read"'
    text = 'departments: {sales: {}}\nroles: {a: {level: user, of: sales, may: "*: read"}}\n'
    (one,) = parse("policy: acme\n" + SHOP % "" + text, "acme.yaml").problems
    assert one.hint == '"OBJECT: read"'


def test_an_included_file_without_anything_is_told_what_it_may_say():
    (one,) = parse(BASE + "include: a.yaml\n", "acme.yaml", {"a.yaml": "# nothing\n"}).problems
    assert (one.file, one.hint) == ("a.yaml", "policy: NAME; in a file that is included roles: ...")


SHOP = 'systems: {shop: {kind: openapi, at: shop.test, upstream: "http://127.0.0.1:9", spec: shop.yaml, %s}}\n'


@pytest.mark.parametrize(
    "key, message, hint",
    [
        ("database: acme", "a system of kind openapi has no database", "leave `database` out"),
        ("sends: 'X-Key: {key}'", "sends is for hand-over key", "hand-over: key"),
        ("hand-over: none, token-from: 'https://a.test/t'", "token-from is for hand-over oauth", "hand-over: oauth"),
        ("hand-over: oauth", "hand-over oauth needs the key 'token-from'", "token-from: ..."),
        ("hand-over: key, sends: 'X-Key: key'", "no header holds the key", '"Authorization: Bearer {key}"'),
        ("hand-over: key, sends: ['X-A: {key}', 'x-a: b']", "a header stands twice", "each once"),
        ("hand-over: session", "a system of kind openapi is not handed over by session", "none or key or oauth"),
    ],
)
def test_what_a_described_system_can_not_have_is_told_and_not_passed_over(key, message, hint):
    (one,) = parse("policy: acme\n" + SHOP % key, "acme.yaml").problems
    assert (one.line, one.message, one.hint) == (2, message, hint)


@pytest.mark.parametrize(
    "line",
    [
        "Host: {key}", "Cookie: sid={key}", "X-GW-Sub: {key}", "Content-Type: {key}", "transfer-encoding: {key}", "DPoP: {key}",
        "X-Forwarded-For: {key}", "X-Envoy-Original-Path: {key}", "Connection: {key}", "Authorization: {secret}", "Authorization: {key",
        "Authorization: ", "Authorization {key}", ": {key}", "X Y: {key}", "X-Key: \u00e4{key}",
    ],
)  # fmt: skip
def test_a_credential_goes_into_no_header_that_tells_of_the_request_itself(line):
    (one,) = parse("policy: acme\n" + SHOP % f'hand-over: key, sends: "{line}"', "acme.yaml").problems
    assert one.hint in {'"Authorization: token {key}", in quotes', "{key}, {login} or {basic}"}


@pytest.mark.parametrize(
    "url",
    [
        "http://login.test/t",
        "https://u:p@login.test/t",
        "https://login.test",
        "ftp://127.0.0.1/t",
        "https://a.test/t#x",
    ],
)
def test_a_clients_secret_goes_to_a_token_endpoint_by_https_alone(url):
    (one,) = parse("policy: acme\n" + SHOP % f'hand-over: oauth, token-from: "{url}"', "acme.yaml").problems
    assert "https://" in one.hint


OPEN = "the bracket of line {} is not closed, or a comma or quotes are missing behind it"
CURLY = "these are typographic quotes"
NO_YAML = "this is not YAML: "
END = "  clerk: {level: user, of: sales}\n"
INDENT = "lines that belong together indented alike, and nothing behind a closing sign"
BROKEN = [
    ("roles:\n\tclerk: {level: partner}\n", 5, NO_YAML + "a tab stands here", "spaces"),
    ("roles:\n  a:\n  \tlevel: partner\n", 6, NO_YAML + "a tab stands here", "spaces"),
    ("roles:\n  a: {level: partner\n" + END, 5, OPEN.format(5), node.CLOSE),
    ("roles:\n  a: {level: partner\n", 6, NO_YAML + OPEN.format(5), node.CLOSE),
    ('roles:\n  a: {level: partner, may: ["a: read"\n' + END, 6, NO_YAML + OPEN.format(5), node.CLOSE),
    ("roles:\n  a: {level: partner, may: a: read}\n", 5, NO_YAML + OPEN.format(5), node.CLOSE),
    ("roles:\n  a: {\n    level: partner\n" + END, 6, OPEN.format(5), node.CLOSE),
    ("roles:\n  a: [\n    {level: partner}, {level: user\n" + END, 6, OPEN.format(6), node.CLOSE),
    ("roles:\n  a: {b: {}, level: partner\ntests:\n  - {a: b}\n", 5, OPEN.format(5), node.CLOSE),
    ('roles:\n  a: {level: "partner}\n', 6, NO_YAML + "the quote of line 5 is not closed", "both quotes in one line"),
    ("roles:\n  a: {may: [*: read]}\n", 5, NO_YAML + "a text that begins with * needs quotes", '"*: read"'),
    (
        "limits: @all\n",
        4,
        NO_YAML + "a text that begins with this sign needs quotes",
        '"the text", in quotes',
    ),
    (
        "limits: default: 1\n",
        4,
        NO_YAML + "mapping values are not allowed in this context",
        'NAME: VALUE in each line; a text with a colon stands in quotes, "orders: read"',
    ),
    ("limits:\n  a: 1\n b: 2\n", 6, NO_YAML + "line 6 is indented less than line 5", INDENT),
    ("limits: {}\n\n  a: b\n", 6, NO_YAML + "line 6 is indented more than line 4", INDENT),
    ('may:\n  - "a"\n   - "b"\n', 6, NO_YAML + "line 6 is indented more than line 5", INDENT),
    ("roles:\n  a:\n    level: user\n     of: sales\n", 7, "line 7 is indented more than line 6", INDENT),
    ("never:\n  - name: a\n     level: user\n", 6, "line 6 is indented more than line 5", INDENT),
    ("limits: {}}\n", 4, NO_YAML + "what stands here does not belong to what stands above it", INDENT),
    ("roles\n  a: {level: partner}\n", 4, "a colon is missing behind roles in line 4", "roles: ..."),
    ("roles\ntests: []\n", 4, "a colon is missing behind roles in line 4", "roles: ..."),
    ("roles:\n  a\n    level: user\n", 5, "a colon is missing behind a in line 5", "a: ..."),
    ("roles:\n  a:\n    level user\n    of: sales\n", 6, "a colon is missing behind level in line 6", "level: user"),
    (
        "roles:\n  a:\n    level:user\n    of: sales\n",
        6,
        "a space is missing behind the colon of line 6",
        "level: user",
    ),
    ("roles: {a: {level: partner, may: “a.b: read”}}\n", 4, CURLY, '"the text"'),
    ("roles:\n  a:\n    may: “a.b: read”\n", 6, CURLY, '"the text"'),
    ('contexts: {a: {hours: „08:00-18:00", zone: UTC}}\n', 4, CURLY, '"the text"'),
]


@pytest.mark.parametrize("text, line, message, hint", BROKEN)
def test_what_is_no_yaml_says_what_to_look_for_and_in_which_line(text, line, message, hint):
    assert told(text) == [(line, message, hint)]


def test_a_text_over_several_lines_is_no_bracket_that_is_not_closed_where_none_is_open():
    assert told("contexts: {}\nroles: a\n  b\n") == [(5, "a text stands in one line", '"the text", in quotes')]
    assert told('roles: {a: "b\n  c"}\n') == [(4, "a text stands in one line", '"the text", in quotes')]


@pytest.mark.parametrize("text, line, message, hint", BROKEN)
def test_it_says_so_by_the_slower_reader_too(monkeypatch, text, line, message, hint):
    """Where PyYAML came without its C part; its own words differ, not those that say what is meant."""
    monkeypatch.setattr(node, "LOADER", yaml.SafeLoader)
    (problem,) = told(text)
    assert problem[2] == hint
    if hint not in {node.MEANINGS[5][2], INDENT}:
        assert problem[1] == message
