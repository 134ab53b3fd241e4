"""What a role of each level may at most hold (standard B2): of the whole system, a department, a task, a few objects."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from ostiary.erp.operation import Pattern, Verb
from ostiary.policy.model import Kind, Level, RoleRule
from ostiary.policy.words import Wrong

RANK: Final = {Level.PARTNER: 0, Level.USER: 1, Level.DEPARTMENT: 2, Level.SYSTEM: 3}
# What rules Tryton itself: users, groups, keys, access rules, modules, what runs by the clock or is a program of its own
# (reports, templates, tasks), what people are shown, and the numbers of documents.
ADMINISTRATION: Final = (
    "res.*", "ir.model", "ir.model.*", "ir.rule", "ir.rule.*", "ir.module", "ir.module.*", "ir.cron", "ir.cron.*",
    "ir.trigger", "ir.configuration", "ir.action", "ir.action.*", "ir.ui.view", "ir.ui.menu", "ir.sequence",
    "ir.sequence.*", "ir.email.template", "ir.queue", "ir.lang", "ir.translation", "ir.message", "wizard.ir.*",
    "wizard.res.*",
)  # fmt: skip

Above = Mapping[str, tuple[str, ...]]  # department -> those that it is part of, the nearest first


def excess(level: Level, patterns: Iterable[Pattern], kinds: Mapping[str, Kind]) -> Iterator[Wrong]:
    """What is too much for a role of `level`, and what to write instead."""
    for pattern in patterns:
        tryton = kinds.get(pattern.system) is Kind.TRYTON
        if level is not Level.SYSTEM and pattern.object == "*":
            meant = "sale.*" if tryton and level is not Level.PARTNER else "OBJECT"
            told = f"only a role of level system may hold every object, not one of level {level}"
            yield Wrong(told, f'"{meant}: {pattern.verb}"')
        elif level is not Level.SYSTEM and tryton and pattern.verb is not Verb.READ and _administers(pattern):
            told = f"{pattern.object}: {pattern.verb} administers the ERP; only a role of level system may hold it"
            yield Wrong(told, "level: system, or name the objects that are meant")
        elif level is Level.PARTNER and pattern.object.endswith(".*"):
            yield Wrong("a role of level partner names each object", f"{pattern.object[:-1]}NAME")
        elif level is Level.PARTNER and tryton and pattern.verb is Verb.EXECUTE and not pattern.action:
            yield Wrong("a role of level partner names each action", f"{pattern.object}: execute ACTION")


def _administers(pattern: Pattern) -> bool:
    rules = (Pattern(system=pattern.system, object=name, verb=pattern.verb) for name in ADMINISTRATION)
    return any(pattern.meets(rule) for rule in rules)


def misfit(role: RoleRule, other: RoleRule, above: Above) -> Wrong | None:
    """Why `role` may not include `other`: it is of a higher level, or not of this branch of the company."""
    if RANK[other.level] > RANK[role.level]:
        return Wrong(
            f"a role of level {role.level} includes none of level {other.level}",
            "a role of its own level or of a lower one",
        )
    mine, theirs = role.department, other.department
    if role.level is Level.SYSTEM or not mine or not theirs or mine in {theirs, *above.get(theirs, ())}:
        return None
    if theirs not in above.get(mine, ()):
        told = f"{other.name} is of {theirs}, which is no part of {mine}"
        return Wrong(told, "a role of its own department, or of one below or above it")
    if other.level is Level.DEPARTMENT:
        told = f"{other.name} leads {theirs}, of which {mine} is only a part"
        return Wrong(told, f"a role of {theirs} that does not lead it")
    return None
