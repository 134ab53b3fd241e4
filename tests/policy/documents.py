"""Random policies that hold together, and random ways to write one down."""

import json
import string
from random import Random
from typing import Any

from hypothesis import strategies as st

NAMES = ("clerk", "manager", "NO", "on", "null", "x-1", "a.b", "true", "Zürich"[0] + "1", "n")
OBJECTS = ("sale.sale", "sale.*", "sale.line", "party.party", "account.move", "account.*", "*")
DOING = ("read", "write", "execute", "delete", "execute approve", "write create")
ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York")
NETWORKS = ("203.0.113.0/24", "10.0.0.0/8", "2001:db8::/32", "198.51.100.7")
ERP = {"kind": "tryton", "at": "erp.example.com", "upstream": "http://127.0.0.1:8000", "database": "acme"}
OBSERVING: Any = ({}, {}, {"observe-until": "2026-12-31T18:00+01:00"})
SHOP = {"kind": "openapi", "at": "api.example.com/shop", "upstream": "https://shop.internal", "spec": "shop.yaml"}

texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"], include_characters=" "), min_size=1, max_size=12
).filter(str.isprintable)
some_texts = st.sampled_from(["create and pay", "it's # not", "a: b", "NO", "12", "'", '"', "\\", "- x", "é"]) | texts


def names(of: Any, **sizes: int) -> st.SearchStrategy[Any]:
    return st.lists(st.sampled_from(of), unique=True, **sizes) if of else st.just([])


@st.composite
def permission(draw: Any, systems: Any, level: str = "system", *, of: str = "") -> str:
    allowed = [
        name for name in OBJECTS if level == "system" or (name != "*" and (level != "partner" or "*" not in name))
    ]
    system = of or draw(st.sampled_from([*systems, ""] if len(systems) == 1 else systems))
    actions = [one for one in DOING if level != "partner" or one != "execute"]
    doing = draw(st.lists(st.sampled_from(actions), min_size=1, max_size=3))
    return f"{system}/{draw(st.sampled_from(allowed))}: {', '.join(doing)}".removeprefix("/")


@st.composite
def line(draw: Any, systems: Any, level: str) -> Any:
    """A line of `may`, perhaps with fewer fields or records."""
    if "erp" not in systems or draw(st.booleans()):
        return draw(permission(systems, level))
    told: dict[str, Any] = {"do": draw(permission(systems, level, of="erp"))}
    if draw(st.booleans()):
        told["do"] = f"erp/sale.sale: {draw(st.sampled_from(['read', 'write', 'read, write', 'write create']))}"
        told["fields"] = draw(st.sampled_from(["name", ["name", "code"], ["no", "_x", "On"]]))
    if draw(st.booleans()):
        conditions = ["own", "<= 5000", [">= 0", "<=5000.50"], ["1", "2"], "draft", ["null", "no"], "12"]
        told["where"] = {name: draw(st.sampled_from(conditions)) for name in draw(names(["amount", "y", "state"], min_size=1))}  # fmt: skip
    return told


@st.composite
def role(draw: Any, known: Any, earlier: dict[str, Any]) -> dict[str, Any]:
    systems, departments, contexts = known
    levels = ["system", "partner", *(["user", "department"] if departments else [])]
    level = draw(st.sampled_from(levels))
    told: dict[str, Any] = {"level": level}
    if level in {"user", "department"}:
        told["of"] = draw(st.sampled_from(list(departments)))
    fitting = [name for name, other in earlier.items() if fits(told, other, departments)]
    if included := draw(names(fitting, max_size=2)):
        told["includes"] = included if len(included) > 1 or draw(st.booleans()) else included[0]
    told["may"] = draw(st.lists(line(systems, level), max_size=4))
    if when := draw(names(contexts, max_size=2)):
        told["when"] = when if len(when) > 1 or draw(st.booleans()) else when[0]
    return told


def fits(role: dict[str, Any], other: dict[str, Any], departments: dict[str, Any]) -> bool:
    """Whether the one may include the other."""

    def branch(name: str) -> list[str]:
        return [name, *branch(departments[name]["of"])] if "of" in departments[name] else [name]

    levels = ["partner", "user", "department", "system"]
    if levels.index(other["level"]) > levels.index(role["level"]):
        return False
    if role["level"] == "system" or "of" not in role or "of" not in other or role["of"] in branch(other["of"]):
        return True
    return other["of"] in branch(role["of"]) and other["level"] != "department"


@st.composite
def context(draw: Any) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if draw(st.booleans()):
        told |= (
            {"days": draw(st.sampled_from(["mon-fri", "sat, sun", "fri-mon", "wed"]))} if draw(st.booleans()) else {}
        )
        told |= {"hours": draw(st.sampled_from(["08:00-18:00", "22:00-06:00", "00:00-24:00", "00:00-12:30"]))}
        told |= {"zone": draw(st.sampled_from(ZONES))}
        if draw(st.booleans()):
            told["holidays"] = draw(names(["2026-12-24", "12-25", "2024-02-29", "02-27"], min_size=1, max_size=3))
    if not told or draw(st.booleans()):
        told["networks"] = draw(names(NETWORKS, min_size=1, max_size=3))
    for key, values in {
        "countries": names(["DE", "AT", "NO", "XK"], min_size=1),
        "devices": st.just("registered"),
        "assurance": st.just("mfa"),
        "within": st.sampled_from(["15 minutes", "1 hour", "30 days", "1second"]),
    }.items():
        if draw(st.integers(0, 3)) == 0:
            told[key] = draw(values)
    return told


@st.composite
def contexts_of(draw: Any, names_: list[str]) -> dict[str, Any]:
    """Some plain; the last one perhaps made of the others."""
    told: dict[str, Any] = {name: draw(context()) for name in names_}
    if len(names_) > 1 and draw(st.booleans()):
        *plain, last = names_
        told[last] = {key: draw(names(plain, min_size=1)) for key in draw(names(["all", "any", "not"], min_size=1))}
    return told


@st.composite
def apart(draw: Any, systems: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"name": draw(some_texts)}
    told |= {"severity": draw(st.sampled_from(["critical", "high", "medium"]))} if draw(st.booleans()) else {}
    if draw(st.booleans()):
        duty = st.lists(permission(systems), min_size=1, max_size=2) | permission(systems)
        told["permissions"] = [draw(duty), draw(duty)]
    else:
        told["permissions"] = [draw(permission(systems, of="erp")), draw(permission(systems, of="erp"))]
        told["within"] = draw(st.sampled_from(["30 days", "1 day"]))
        told |= {"link": "party"} if draw(st.booleans()) else {}
    return told


@st.composite
def duties(draw: Any, systems: Any, roles: Any) -> dict[str, Any]:
    """Rules about duties, and controls in the place of some of them."""
    rules = draw(st.lists(apart(systems), min_size=1, max_size=2))
    ids = [f"R-{number}" for number in range(len(rules))]
    told: dict[str, Any] = {"rules": draw(names(ids, min_size=1)), "roles": draw(names(roles, min_size=1))}
    told |= {name: draw(some_texts) for name in ("what", "owner", "reason")} | {"until": "2026-12-31"}
    rules = [{"id": id_, **rule} for id_, rule in zip(ids, rules, strict=True)]
    return {"apart": rules, "controls": [told] if roles and draw(st.booleans()) else []}


@st.composite
def statement(draw: Any, systems: Any, roles: Any, contexts: Any, key: str) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": draw(some_texts),
        "may": draw(st.lists(permission(systems), min_size=1, max_size=3)),
    }
    told |= {"roles": draw(names(roles, min_size=1))} if roles and draw(st.booleans()) else {}
    told |= {"level": "partner"} if draw(st.booleans()) else {}
    return told | ({key: draw(st.sampled_from(contexts))} if contexts and draw(st.booleans()) else {})


@st.composite
def test(draw: Any, systems: Any, roles: Any) -> dict[str, Any]:
    object_ = draw(st.sampled_from([name for name in OBJECTS if "*" not in name]))
    told = {
        "who": draw(names(roles)),
        "does": f"{draw(st.sampled_from(systems))}/{object_}: {draw(st.sampled_from(DOING))}",
        "fields": draw(st.sampled_from(["name", ["name", "code"]])),
        "at": draw(st.sampled_from(["2026-03-03T10:00+01:00", "2026-03-29T01:30Z"])),
        "expect": draw(st.sampled_from(["allow", "deny"])),
    }
    return told | ({"from": "203.0.113.7"} if draw(st.booleans()) else {})


@st.composite
def limits(draw: Any, roles: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"anonymous": {"requests": "60/minute"}} if draw(st.booleans()) else {}
    told |= {"default": {"requests": "1000/hour", "body": "10 MB"}} if draw(st.booleans()) else {}
    return told | {name: {"requests": draw(st.sampled_from(["5/second", "9000/day"]))} for name in draw(names(roles))}


@st.composite
def structures(draw: Any) -> dict[str, Any]:
    """A policy that holds together, as plain values; every leaf is a text."""
    systems = draw(st.sampled_from([["erp"], ["erp", "shop"]]))
    contexts, roles = draw(names(NAMES, max_size=3)), draw(names(NAMES, max_size=4))
    tree = draw(names(NAMES))
    departments = {
        name: {"of": draw(st.sampled_from(tree[:number]))} if number and draw(st.booleans()) else {}
        for number, name in enumerate(tree)
    }
    known, told = (systems, departments, contexts), {}
    for name in roles:
        told[name] = draw(role(known, told))
    value: dict[str, Any] = {
        "policy": draw(some_texts),
        "systems": {name: {"erp": ERP, "shop": SHOP}[name] | draw(st.sampled_from(OBSERVING)) for name in systems},
        "departments": departments,
        "contexts": draw(contexts_of(contexts)),
        "roles": told,
        **draw(duties(systems, roles)),
        "never": draw(st.lists(statement(systems, roles, contexts, "outside"), max_size=2)),
        "always": draw(st.lists(statement(systems, roles, contexts, "when"), max_size=2)),
        "limits": draw(limits(roles)),
        "when-silent": draw(st.sampled_from(["close", "ask", "keep", "keep 10 minutes"])),
        "when-owner-leaves": draw(st.sampled_from(["end", "stay"])),
        "approvals": draw(
            st.sampled_from([{"policy": "1"}, {"break-glass": "2"}, {"policy": "9", "break-glass": "1"}])
        ),
        "response": draw(
            st.sampled_from(
                [{"guesses": "1/minute"}, {"block": "1 day"}, {"block": "10 minutes", "spare": ["::1/128"]}]
            )
        ),
        "tests": draw(st.lists(test(systems, roles), max_size=2)),
    }
    order = draw(st.permutations(list(value)))
    optional = [
        "when-silent",
        "when-owner-leaves",
        "never",
        "always",
        "limits",
        "tests",
        "controls",
        "approvals",
        "response",
    ]
    left_out = draw(st.sets(st.sampled_from(optional)))
    return {key: value[key] for key in order if key not in left_out}


class Writer:
    """Writes a structure as somebody might: lines or brackets, any quotes, comments and empty lines everywhere."""

    def __init__(self, random: Random, *, comments: bool = True) -> None:
        self._random, self._with = random, comments
        self.comments: list[str] = []

    def document(self, value: Any) -> str:
        return self.noise(0) + self.block(value, 0) + self.noise(0)

    def chance(self, of: int) -> bool:
        return self._random.randrange(of) == 0

    def beside(self) -> str:
        return f" {self.comment()}" if self._with and self.chance(12) else ""

    def comment(self) -> str:
        self.comments.append(f"# c{len(self.comments)} {self._random.choice(['', 'a: b', '# #', '[', 'é'])}".rstrip())
        return self.comments[-1]

    def noise(self, indent: int) -> str:
        out = ""
        while self._with and self.chance(8):
            wide = max(0, indent + self._random.choice([-4, -2, 0, 0, 0, 1, 2]))
            out += "\n" if self.chance(2) else " " * wide + self.comment() + "\n"
        return out

    def word(self, text: str) -> str:
        plain = all(c in string.ascii_letters + string.digits + "./-" for c in text) and text[:1].isalnum()
        double = json.dumps(text, ensure_ascii=max(text, default="") < "\uffff" and self.chance(2)).replace(
            "\x7f", "\\x7f"
        )
        single = "'" + text.replace("'", "''") + "'"
        return self._random.choice([double, single, *([text] * 4 if plain else [])])

    def block(self, value: Any, indent: int) -> str:
        """Lines of a mapping or a list."""
        pad, out = " " * indent, ""
        if isinstance(value, dict):
            for key, inner in value.items():
                out += f"{self.noise(indent)}{pad}{self.word(key)}:{self.value(inner, indent)}"
            return out
        for inner in value:
            out += f"{self.noise(indent)}{pad}-{self.item(inner, indent)}"
        return out

    def value(self, value: Any, indent: int) -> str:
        step = self._random.choice([1, 2, 2, 4])
        if isinstance(value, str) or not value or self.chance(2):
            return f" {self.flow(value, indent + step)}{self.beside()}\n"
        step = 0 if isinstance(value, list) and self.chance(3) else step
        return f"{self.beside()}\n{self.block(value, indent + step)}"

    def item(self, value: Any, indent: int) -> str:
        if not isinstance(value, dict) or not value or self.chance(2):
            return f" {self.flow(value, indent + 2)}{self.beside()}\n"
        if self.chance(4):
            return f"{self.beside()}\n{self.block(value, indent + 2)}"
        first, *rest = value
        told = f" {self.word(first)}:{self.value(value[first], indent + 2)}"
        return told + self.block({key: value[key] for key in rest}, indent + 2)

    def flow(self, value: Any, indent: int) -> str:
        if isinstance(value, str):
            return self.word(value)
        mapping = isinstance(value, dict)
        parts = [f"{self.word(k)}: {self.flow(v, indent)}" for k, v in value.items()] if mapping else [self.flow(v, indent) for v in value]  # fmt: skip
        opening, closing = "{}" if mapping else "[]"
        if not self.chance(3):
            return opening + ", ".join(parts) + closing
        pad = " " * (indent + 1)
        out = f"{opening}{self.beside()}\n"
        for number, part in enumerate(parts):
            out += f"{self.noise(indent + 1)}{pad}{part}{',' if number + 1 < len(parts) else ''}{self.beside()}\n"
        return f"{out}{self.noise(indent + 1)}{pad}{closing}"


@st.composite
def documents(draw: Any, *, comments: bool = True) -> tuple[str, list[str]]:
    """A policy as text, and the comments in it."""
    writer = Writer(Random(draw(st.integers(0, 2**32))), comments=comments)
    return writer.document(draw(structures())), writer.comments
