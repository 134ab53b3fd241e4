"""Every key of the document: what it means, what it holds, an example. Parser, JSON Schema and reference read this."""

import re
from typing import Final

from ostiary.policy import words
from ostiary.policy.model import Assurance, Devices, Expected, HandOver, Kind, Level, Severity, WhenSilent
from ostiary.policy.shape import Key, Part, Schema, list_of, named, needs, one_of, some, text

RESERVED_LIMITS: Final = ("anonymous", "default")

# What YAML calls a number or a truth value is a text here, so an editor must not refuse it.
TEXT: Final[Schema] = {"type": ["string", "number", "boolean", "null"]}
PERMISSION: Final = text(words.PERMISSION)
PERMISSIONS: Final = some(PERMISSION)
CONTEXTS: Final[Schema] = {**some(TEXT), "minItems": 1}
ONE: Final[Schema] = {**some(TEXT), "minItems": 1, "maxItems": 1}
UPSTREAM: Final = "http://127.0.0.1:8000"
NETWORKS: Final[Schema] = {**some(text(words.NETWORK)), "minItems": 1}


def _shaped(form: re.Pattern[str]) -> Schema:
    return {**text(form), **TEXT}


HAND_OVER: Final = """\
How the ERP's own credential is presented: not at all, one key that the gate adds, or a session for each ERP user. \
Default: session for tryton, none for openapi."""
OBSERVE: Final = """\
Until then, 90 days ahead at most, callers who show the ERP's own credential pass, whatever roles may: what they do is \
noted, with what the policy would decide. Access tokens are judged as ever."""
SYSTEM: Final = Part(
    name="system",
    says="A protected ERP: where callers reach it, and where it is.",
    keys=(
        Key("kind", "How its calls are read: as Tryton's, or by an OpenAPI document.", one_of(Kind), "tryton"),
        Key("at", "Where callers reach it: a host, for openapi perhaps with a path.", _shaped(words.PLACE), "erp.test"),
        Key("upstream", "Where the ERP itself answers, for the gate alone.", text(words.UPSTREAM), UPSTREAM),
        Key("database", "Tryton's database; needed for kind tryton.", _shaped(words.DATABASE), "acme"),
        Key(
            "spec",
            "The OpenAPI document, by its path below the policy's folder; needed for kind openapi.",
            TEXT,
            "shop.openapi.yaml",
        ),
        Key("hand-over", HAND_OVER, one_of(HandOver), "session"),
        Key("audience", "What its access tokens are for. Default: https:// and the place.", TEXT, "urn:acme:erp"),
        Key("observe-until", OBSERVE, text(words.MOMENT), "2026-12-31T18:00+01:00"),
    ),
    needed=("kind", "at", "upstream"),
    rules={"allOf": [needs("kind", ("tryton",), "database"), needs("kind", ("openapi",), "spec")]},
)

DEPARTMENT: Final = Part(
    name="department",
    says="A part of the company that roles belong to.",
    keys=(Key("of", "The department that it is part of.", TEXT, "finance"),),
)

HOURS: Final = "From, and up to but not including. Hours may cross midnight, and then belong to the day they began."
NOT: Final = "Contexts of which none may hold. What is named under all, any and not is not made of others itself."
HOLIDAYS: Final = "Days on which no hours begin; without a year it is every year's."
COUNTRIES: Final = """\
The caller's address lies in one of these, by the database that geoip_database in settings.toml names. What is not known \
there is in no country, and outside none either."""
DEVICES: Final = "The call shows the certificate of a device that is registered, or its token was issued to one."
TIMED: Final = {"days": ["hours", "zone"], "hours": ["zone"], "zone": ["hours"], "holidays": ["hours"]}
CONTEXT: Final = Part(
    name="context",
    says="Conditions that must all hold: hours, place, device, sign-in, other contexts.",
    keys=(
        Key("days", "Days of the week. Default: every day.", text(words.DAYS), "mon-fri"),
        Key("hours", HOURS, text(words.HOURS), "08:00-18:00"),
        Key("zone", "The time zone of the hours, by name.", text(words.ZONE), "Europe/Berlin"),
        Key("holidays", HOLIDAYS, {**some(_shaped(words.HOLIDAY)), "minItems": 1}, ["2026-04-03", "12-25"]),
        Key("networks", "The caller's address lies in one of these.", NETWORKS, ["203.0.113.0/24", "2001:db8::/32"]),
        Key("countries", COUNTRIES, {**some(text(words.COUNTRY)), "minItems": 1}, ["DE", "AT"]),
        Key("devices", DEVICES, one_of(Devices), "registered"),
        Key("assurance", "The person signed in with more than one factor.", one_of(Assurance), "mfa"),
        Key("within", "The person signed in no longer ago than this.", text(words.AGE), "15 minutes"),
        Key("all", "Contexts that must all hold as well.", CONTEXTS, ["office-hours", "carrier-network"]),
        Key("any", "Contexts of which one must hold.", CONTEXTS, ["office-hours", "carrier-network"]),
        Key("not", NOT, CONTEXTS, "night"),
    ),
    rules={"minProperties": 1, "dependentRequired": TIMED},
)

LEVEL: Final = """\
What the role may at most hold. system: everything, and alone what administers the ERP (Tryton's users, groups, keys, \
access rules, modules) and every object (*). department: families of objects; it includes roles of its department and of \
those below it. user: families of objects too, but no role that leads a department. partner: each object by its name, \
and of Tryton each action too; it includes partners' roles alone."""
FIELDS: Final = """\
The fields that may be read and written, of the object itself: a path like party.name is party here, and name where \
party.party is granted. A field that is not named is refused wherever a call names it, in filters and orders too. \
A computed field stands for all that the ERP writes with it. Default: every field. Of a system of kind openapi for \
write alone: the body's properties and the query's names."""
WHERE: Final = """\
What each record must hold, before the call and after what the call itself writes: own (it links to the caller's own ERP \
user, or to one of that user's companies), bounds of a number, or the values that it may have (of a link, ids). Only \
for a system of kind tryton, and for fields that the ERP stores. A read that names no record by id is refused."""
CONDITIONS: Final[Schema] = {"type": "object", "propertyNames": text(words.FIELD), "additionalProperties": some(TEXT)}
GRANT: Final = Part(
    name="grant",
    says="A line of `may` with fewer fields or records. For each operation of a call one line must cover all of it.",
    keys=(
        Key("do", "What the role may do, as in a line of `may`.", PERMISSION, "account.payment: read, write"),
        Key("fields", FIELDS, some(text(words.FIELD)), ["amount", "party"]),
        Key("where", WHERE, CONDITIONS, {"create_uid": "own", "amount": [">= 0", "<= 5000"], "state": "draft"}),
    ),
    needed=("do",),
)
LINES: Final = some({"anyOf": [PERMISSION, {"$ref": "#/$defs/grant"}]})
MAY: Final = """\
What the role may do: SYSTEM/OBJECT: VERBS. The object is exact (sale.sale), a family (sale.*) or everything (*); the \
verbs are read, write, execute and delete, perhaps with one action (execute approve). The system may be left out while \
there is only one. With fewer fields or records a line is a grant."""
INCLUDES: Final = """\
Roles that it holds as well, each in that role's own context: of no higher level, and of the same branch of the company."""
ROLE: Final = Part(
    name="role",
    says="A named set of permissions, given to users and clients.",
    keys=(
        Key("level", LEVEL, one_of(Level), "user"),
        Key("of", "Its department; needed for the levels department and user.", TEXT, "sales"),
        Key("includes", INCLUDES, some(TEXT), ["clerk"]),
        Key("may", MAY, LINES, ["sale.*: read, write", "account.payment: execute approve"]),
        Key("when", "Contexts that must all hold for what the role itself may.", CONTEXTS, "office-hours"),
    ),
    needed=("level",),
    rules=needs("level", ("department", "user"), "of"),
)

TWO_LINES: Final[Schema] = {"type": "array", "items": PERMISSIONS, "minItems": 2, "maxItems": 2}
DUTIES: Final[Schema] = {"anyOf": [TWO_LINES, some(text(words.VARIABLE))]}
WITHIN: Final = """\
With it: nobody may do the second to a record to which he did the first within so many days; only for a system of kind \
tryton. Without it: no role and nobody may hold both."""
LINK: Final = "The field of the second duty's record that names the first duty's. Default: the same record."
RULE_ID: Final = "Its name in controls and events. Default: its place in the list."
NAMED: Final[Schema] = {**some(TEXT), "minItems": 1}
APART: Final = Part(
    name="apart",
    says="Two duties that one person must not do both.",
    keys=(
        Key("name", "What it is about.", TEXT, "create and pay a supplier"),
        Key(
            "permissions",
            "The first duty and the second: a permission, or a list of such.",
            DUTIES,
            ["sale.sale: write", "account.move: execute"],
        ),
        Key("within", WITHIN, text(words.WITHIN), "30 days"),
        Key("link", LINK, _shaped(words.LINK), "party"),
        Key("id", RULE_ID, _shaped(words.RULE), "P2P-01"),
        Key("severity", "How bad it is where one person does both. Default: high.", one_of(Severity), "critical"),
    ),
    needed=("name", "permissions"),
    rules={"dependentRequired": {"link": ["within"]}},
)
CONTROL: Final = Part(
    name="control",
    says="A compensating control: why some may do both duties of a rule all the same, for a time.",
    keys=(
        Key("rules", "The rules of `apart`, by their ids.", {**some(text(words.RULE)), "minItems": 1}, ["P2P-01"]),
        Key("roles", "Whoever holds one of these roles, not by another that includes it.", NAMED, ["clerk"]),
        Key("what", "What is done instead.", TEXT, "the owner reads every new supplier on Fridays"),
        Key("owner", "Who answers for it.", TEXT, "eva@acme.test"),
        Key("reason", "Why it can't be done without.", TEXT, "three people work here"),
        Key("until", "Its last day, in UTC; after it the rule counts for all.", _shaped(words.DAY), "2026-12-31"),
    ),
    needed=("rules", "roles", "what", "owner", "reason", "until"),
)

NEVER: Final = Part(
    name="never",
    says="A statement that holds for every revision, or the revision is refused.",
    keys=(
        Key("name", "What it is about.", TEXT, "partners never touch the ledger"),
        Key("level", "Of no role of this level. Without level and roles: of no role at all.", one_of(Level), "partner"),
        Key("roles", "Of none of these roles.", NAMED, ["clerk"]),
        Key("may", "What it never may.", {**PERMISSIONS, "minItems": 1}, "account.*: read, write"),
        Key("outside", "The context in which it may all the same. Default: none.", ONE, "office-hours"),
    ),
    needed=("name", "may"),
)
ALWAYS: Final = Part(
    name="always",
    says="What some role may in every revision, or the revision is refused: a grant for all of it, for all its records.",
    keys=(
        Key("name", "What it is about.", TEXT, "auditors can always read the ledger"),
        Key("level", "Every role of this level. Without level and roles: every role.", one_of(Level), "system"),
        Key("roles", "Each of these roles.", NAMED, ["auditor"]),
        Key("may", "What it always may.", {**PERMISSIONS, "minItems": 1}, "account.*: read"),
        Key("when", "The context in which it may. Default: every one.", ONE, "office-hours"),
    ),
    needed=("name", "may"),
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

OTHERS: Final = _shaped(words.OTHERS)
BLOCK: Final = """\
How long an address that guesses is refused; twice as long each time again within a week, a day at most. \
Default: 10 minutes."""
APPROVALS: Final = Part(
    name="approvals",
    says="How many others must say yes before it happens; nobody says yes to what he asked for himself.",
    keys=(
        Key("policy", "To any change of the policy, this key's too.", OTHERS, 1),
        Key("break-glass", "To a role for a time, given in an emergency; to one for good then too.", OTHERS, 1),
        Key("roles", "To a role that somebody is given for good.", OTHERS, 1),
    ),
    rules={"minProperties": 1},
)

RESPONSE: Final = Part(
    name="response",
    says="What the watch does by itself about who fails again and again to show who he is; everybody learns of it.",
    keys=(
        Key("guesses", "More failures than these are guessing. Default: 5/minute.", text(words.GUESSES), "5/minute"),
        Key("block", BLOCK, text(words.AGE), "10 minutes"),
        Key("spare", "Networks that are never blocked: an office behind one address.", NETWORKS, ["203.0.113.0/24"]),
    ),
    rules={"minProperties": 1},
)

TEST: Final = Part(
    name="test",
    says="An example that must come out as it says, before the policy is applied.",
    keys=(
        Key("who", "The roles of the caller.", some(TEXT), ["clerk"]),
        Key("does", "One operation.", text(words.OPERATION), "sale.sale: write"),
        Key("fields", "The fields that it names.", some(text(words.FIELD)), ["amount"]),
        Key(
            "record",
            "What the record holds, own for the caller's.",
            CONDITIONS,
            {"create_uid": "own", "amount": "4999"},
        ),
        Key("at", "When, with the offset from UTC.", text(words.MOMENT), "2026-03-03T10:00+01:00"),
        Key("from", "The caller's address.", text(words.ADDRESS), "203.0.113.7"),
        Key("country", "The country of that address. Default: not known.", text(words.COUNTRY), "DE"),
        Key("device", "A registered one. Default: another one.", one_of(Devices), "registered"),
        Key("assurance", "With more than one factor. Default: with one.", one_of(Assurance), "mfa"),
        Key("signed-in", "So long ago. Default: it is no person who calls.", text(words.AGE), "10 minutes"),
        Key("expect", "What must come out.", one_of(Expected), "deny"),
    ),
    needed=("who", "does", "at", "expect"),
)

ERP: Final = {"kind": "tryton", "at": "erp.test", "upstream": UPSTREAM, "database": "acme"}
OFFICE: Final = {"days": "mon-fri", "hours": "08:00-18:00", "zone": "Europe/Berlin"}
CLERK: Final = {"level": "user", "of": "finance", "may": ["sale.*: read, write"], "when": "office-hours"}
TWO: Final = {
    "id": "R2R-02",
    "name": "post and reconcile",
    "permissions": ["account.move: write", "account.reconcile: execute"],
}
CONTROLLED: Final = {
    "rules": ["R2R-02"],
    "roles": ["clerk"],
    "what": "the owner reads the list of the month",
    "owner": "eva@acme.test",
    "reason": "one person keeps the books",
    "until": "2026-12-31",
}
LEDGER: Final = {"name": "partners never touch the ledger", "level": "partner", "may": "account.*: read, write"}
AUDIT: Final = {"name": "auditors can always read the ledger", "roles": "clerk", "may": "account.*: read"}
SUNDAY: Final = {"who": ["clerk"], "does": "sale.sale: write", "at": "2026-03-01T10:00+01:00", "expect": "deny"}
LIMITED: Final = {"anonymous": {"requests": "60/minute"}, "default": {"requests": "1000/hour", "body": "10 MB"}}
NO_REVISION: Final = "What no revision may allow; proved of all that roles may do."
INCLUDE: Final = """\
Other files of the policy, by their path from its folder: each says any of the keys here but `policy`, and counts once. \
`*` stands for any part of a name."""
PACKS: Final = """\
Rules and roles that come with Ostiary, for the system of their kind; of several of that kind, SYSTEM/sod/tryton names \
one. What the policy says itself stands in the place of what a pack says under the same name or id, and a later pack's \
in the place of an earlier one's."""
VARIABLES: Final = """\
Values under a name, for use in several places: `the NAME` stands for them wherever a list, a permission, hours, networks, \
an address, a rate or another text of a fixed form is meant; no free text. One may be made of those above it."""
HELD: Final[Schema] = {**named("value"), "additionalProperties": {**some(TEXT), "minItems": 1}}
SAYS_LIMITS: Final = """\
How much callers may send: anonymous for each address without a known caller, default for each caller, and by role; of \
several roles the most generous counts."""
LIMITS: Final[Schema] = {**named("limit"), "properties": {"default": {"$ref": "#/$defs/default-limit"}}}
SILENT: Final = one_of(WhenSilent, WhenSilent.CLOSE)
SECOND: Final = "What needs a second person: a change of the policy, a role in an emergency. Default: nothing."
MUST: Final = "Examples that must come out as they say, before the policy is applied."
POLICY: Final = Part(
    name="policy",
    says="Who may do which business operation, when, from where, and how often.",
    keys=(
        Key("policy", "The policy's name.", TEXT, "acme"),
        Key("packs", PACKS, some(text(words.PACK)), ["sod/tryton"]),
        Key("include", INCLUDE, some(text(words.PATTERN)), ["roles/*.yaml"]),
        Key("variables", VARIABLES, HELD, {"warehouse": ["203.0.113.0/24", "198.51.100.0/24"]}),
        Key("systems", "The protected ERPs, by name.", named("system"), {"erp": ERP}),
        Key(
            "departments", "The parts of the company, by name.", named("department"), {"pay": {}, "tax": {"of": "pay"}}
        ),
        Key("contexts", "Conditions, by name.", named("context"), {"office-hours": OFFICE}),
        Key("roles", "The roles, by name. What no role may is denied.", named("role"), {"clerk": CLERK}),
        Key("apart", "Segregation of duties.", list_of("apart"), [TWO]),
        Key("controls", "Who may do what is kept apart all the same.", list_of("control"), [CONTROLLED]),
        Key("never", NO_REVISION, list_of("never"), [LEDGER]),
        Key("always", "What every revision must allow, proved for every situation.", list_of("always"), [AUDIT]),
        Key("limits", SAYS_LIMITS, LIMITS, LIMITED),
        Key("when-silent", "What the gate does when control is dead: close, or keep the last state.", SILENT, "keep"),
        Key("approvals", SECOND, {"$ref": "#/$defs/approvals"}, {"policy": 1}),
        Key("response", "What happens to who guesses.", {"$ref": "#/$defs/response"}, {"block": "10 minutes"}),
        Key("tests", MUST, list_of("test"), [SUNDAY]),
    ),
    needed=("policy",),
)
PARTS: Final = (
    SYSTEM,
    DEPARTMENT,
    CONTEXT,
    ROLE,
    GRANT,
    APART,
    CONTROL,
    NEVER,
    ALWAYS,
    LIMIT,
    DEFAULT_LIMIT,
    APPROVALS,
    RESPONSE,
    TEST,
)
