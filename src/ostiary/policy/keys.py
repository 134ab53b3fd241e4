"""Every key of the document: what it means, what it holds, an example. Parser, JSON Schema and reference read this."""

from typing import Final

from ostiary.policy import words
from ostiary.policy.model import Expected, HandOver, Kind, Level, WhenSilent
from ostiary.policy.shape import Key, Part, Schema, list_of, named, needs, one_of, some, text

RESERVED_LIMITS: Final = ("anonymous", "default")

# What YAML calls a number or a truth value is a text here, so an editor must not refuse it.
TEXT: Final[Schema] = {"type": ["string", "number", "boolean", "null"]}
PERMISSION: Final = text(words.PERMISSION)
PERMISSIONS: Final = some(PERMISSION)
CONTEXTS: Final[Schema] = {**some(TEXT), "minItems": 1}

SYSTEM: Final = Part(
    name="system",
    says="A protected ERP: where callers reach it, and where it is.",
    keys=(
        Key(
            "kind",
            "How its calls are read: Tryton's JSON-RPC and REST, or what an OpenAPI document describes.",
            one_of(Kind),
            "tryton",
            needed=True,
        ),
        Key(
            "at",
            "Where callers reach it: a host, for openapi perhaps with a path. No two systems share a place.",
            {**TEXT, "pattern": f"^(?:{words.PLACE.pattern})$"},
            "erp.example.com",
            needed=True,
        ),
        Key(
            "upstream",
            "Where the ERP itself answers, for the gate alone.",
            text(words.UPSTREAM),
            "http://127.0.0.1:8000",
            needed=True,
        ),
        Key(
            "database",
            "Tryton's database; needed for kind tryton.",
            {**TEXT, "pattern": f"^(?:{words.DATABASE.pattern})$"},
            "acme",
        ),
        Key("spec", "The OpenAPI document, beside the policy; needed for kind openapi.", TEXT, "shop.openapi.yaml"),
        Key(
            "hand-over",
            "How the ERP's own credential is presented: not at all, one key that the gate adds, or a session for each "
            "ERP user. Default: session for tryton, none for openapi.",
            one_of(HandOver),
            "session",
        ),
        Key(
            "audience",
            "What access tokens for it are issued for. Default: https:// and the place.",
            TEXT,
            "https://erp.example.com",
        ),
    ),
    rules={"allOf": [needs("kind", ("tryton",), "database"), needs("kind", ("openapi",), "spec")]},
)

DEPARTMENT: Final = Part(
    name="department",
    says="A part of the company that roles belong to.",
    keys=(Key("of", "The department that it is part of.", TEXT, "finance"),),
)

CONTEXT: Final = Part(
    name="context",
    says="Conditions that must all hold: hours, networks, other contexts.",
    keys=(
        Key("days", "Days of the week. Default: every day.", text(words.DAYS), "mon-fri"),
        Key(
            "hours",
            "From, and up to but not including. Hours may cross midnight, and then belong to the day they began.",
            text(words.HOURS),
            "08:00-18:00",
        ),
        Key("zone", "The time zone of the hours, by name.", text(words.ZONE), "Europe/Berlin"),
        Key(
            "networks",
            "The caller's address lies in one of these.",
            {**some(text(words.NETWORK)), "minItems": 1},
            ["203.0.113.0/24", "2001:db8::/32"],
        ),
        Key("all", "Contexts that must all hold as well.", CONTEXTS, ["office-hours", "carrier-network"]),
        Key("any", "Contexts of which one must hold.", CONTEXTS, ["office-hours", "carrier-network"]),
        Key(
            "not",
            "Contexts of which none may hold. What is named here is not made of others itself.",
            CONTEXTS,
            "night",
        ),
    ),
    rules={
        "minProperties": 1,
        "dependentRequired": {"days": ["hours", "zone"], "hours": ["zone"], "zone": ["hours"]},
    },
)

ROLE: Final = Part(
    name="role",
    says="A named set of permissions, given to users and clients.",
    keys=(
        Key(
            "level",
            "What the role may at most be about: the whole system, a department, a user's own tasks, or a partner's "
            "few objects. Every object (*) is for system alone; a partner names each object.",
            one_of(Level),
            "user",
            needed=True,
        ),
        Key("of", "Its department; needed for the levels department and user.", TEXT, "sales"),
        Key(
            "includes",
            "Roles whose permissions it holds as well, each in that role's own context.",
            some(TEXT),
            ["clerk"],
        ),
        Key(
            "may",
            "What the role may do: SYSTEM/OBJECT: VERBS. The object is exact (sale.sale), a family (sale.*) or "
            "everything (*); the verbs are read, write, execute and delete, perhaps with one action (execute approve). "
            "The system may be left out while there is only one.",
            PERMISSIONS,
            ["sale.*: read, write", "account.payment: execute approve"],
        ),
        Key(
            "when",
            "Contexts that must all hold for what the role itself may. Without it: always.",
            CONTEXTS,
            "office-hours",
        ),
    ),
    rules=needs("level", ("department", "user"), "of"),
)

APART: Final = Part(
    name="apart",
    says="Two duties that one person must not do both.",
    keys=(
        Key("name", "What it is about.", TEXT, "create and pay a supplier", needed=True),
        Key(
            "permissions",
            "The first duty and the second.",
            {"type": "array", "items": PERMISSION, "minItems": 2, "maxItems": 2},
            ["party.party: write", "account.payment: execute approve"],
            needed=True,
        ),
        Key(
            "within",
            "With it: nobody may do the second to a record to which he did the first within so many days; only for "
            "a system of kind tryton. Without it: no role and nobody may hold both.",
            text(words.WITHIN),
            "30 days",
        ),
        Key(
            "link",
            "The field of the second duty's record that names the first duty's. Default: the same record.",
            {**TEXT, "pattern": f"^(?:{words.LINK.pattern})$"},
            "party",
        ),
    ),
    rules={"dependentRequired": {"link": ["within"]}},
)

NEVER: Final = Part(
    name="never",
    says="A statement that holds for every revision, or the revision is refused.",
    keys=(
        Key("name", "What it is about.", TEXT, "partners never touch the ledger", needed=True),
        Key("level", "Of no role of this level.", one_of(Level), "partner"),
        Key("roles", "Of none of these roles.", some(TEXT), ["clerk"]),
        Key(
            "may",
            "What it never may, in whatever context.",
            {**PERMISSIONS, "minItems": 1},
            "account.*: read, write, execute, delete",
            needed=True,
        ),
    ),
    rules={"anyOf": [{"required": ["level"]}, {"required": ["roles"]}]},
)

REQUESTS: Final = Key("requests", "How many requests in a second, minute, hour or day.", text(words.RATE), "1000/hour")
BODY: Final = Key("body", "The largest request body, for every caller.", text(words.SIZE), "10 MB")
LIMIT: Final = Part(name="limit", says="How much one caller may send.", keys=(REQUESTS,), rules={"minProperties": 1})
DEFAULT_LIMIT: Final = Part(
    name="default-limit",
    says="How much a caller may send, unless a role of his says more.",
    keys=(REQUESTS, BODY),
    rules={"minProperties": 1},
)

TEST: Final = Part(
    name="test",
    says="An example that must come out as it says, before the policy is applied.",
    keys=(
        Key("who", "The roles of the caller.", some(TEXT), ["clerk"], needed=True),
        Key("does", "One operation.", text(words.OPERATION), "sale.sale: write", needed=True),
        Key("at", "When, with the offset from UTC.", text(words.MOMENT), "2026-03-03T10:00+01:00", needed=True),
        Key("from", "The caller's address.", text(words.ADDRESS), "203.0.113.7"),
        Key("expect", "What must come out.", one_of(Expected), "deny", needed=True),
    ),
)

POLICY: Final = Part(
    name="policy",
    says="Who may do which business operation, when, from where, and how often.",
    keys=(
        Key("policy", "The policy's name.", TEXT, "acme", needed=True),
        Key(
            "systems",
            "The protected ERPs, by name.",
            named("system"),
            {
                "erp": {
                    "kind": "tryton",
                    "at": "erp.example.com",
                    "upstream": "http://127.0.0.1:8000",
                    "database": "acme",
                }
            },
        ),
        Key(
            "departments",
            "The parts of the company, by name.",
            named("department"),
            {"finance": {}, "payroll": {"of": "finance"}},
        ),
        Key(
            "contexts",
            "Conditions, by name.",
            named("context"),
            {"office-hours": {"days": "mon-fri", "hours": "08:00-18:00", "zone": "Europe/Berlin"}},
        ),
        Key(
            "roles",
            "The roles, by name. What no role may is denied.",
            named("role"),
            {"clerk": {"level": "user", "of": "finance", "may": ["sale.*: read, write"], "when": "office-hours"}},
        ),
        Key(
            "apart",
            "Segregation of duties.",
            list_of("apart"),
            [{"name": "post and reconcile", "permissions": ["account.move: write", "account.reconcile: execute"]}],
        ),
        Key(
            "never",
            "What no revision may allow; checked by listing all that roles may do, whatever the context.",
            list_of("never"),
            [{"name": "partners never touch the ledger", "level": "partner", "may": "account.*: read, write"}],
        ),
        Key(
            "limits",
            "How much callers may send: anonymous for each address without a known caller, default for each caller, "
            "and by role; of several roles the most generous counts.",
            {
                **named("limit"),
                "properties": {"default": {"$ref": "#/$defs/default-limit"}},
            },
            {"anonymous": {"requests": "60/minute"}, "default": {"requests": "1000/hour", "body": "10 MB"}},
        ),
        Key(
            "when-silent",
            "What the gate does when control is dead: close, or keep the last state.",
            one_of(WhenSilent, WhenSilent.CLOSE),
            "keep",
        ),
        Key(
            "tests",
            "Examples that must come out as they say, before the policy is applied.",
            list_of("test"),
            [{"who": ["clerk"], "does": "sale.sale: write", "at": "2026-03-01T10:00+01:00", "expect": "deny"}],
        ),
    ),
)
PARTS: Final = (SYSTEM, DEPARTMENT, CONTEXT, ROLE, APART, NEVER, LIMIT, DEFAULT_LIMIT, TEST)
