"""What somebody holds or is to hold, by `ostiary review` and `ostiary break-glass`, and on whose yes that waits."""

from collections.abc import Mapping, Sequence
from typing import Any

from ostiary.cli.terminal import noted, table, waits
from ostiary.foundation.errors import counted, harmless


def held(rows: Sequence[Mapping[str, Any]], **_: Any) -> str:
    """Every role that somebody holds, and whether it was used."""
    from ostiary.control.evidence import PART

    told = table(rows, ("principal", "role", "used", "last", "looked", "by", "due"), empty="Nothing.")
    partly = dict.fromkeys(row["principal"] for row in rows if not row["whole"])
    return told + noted([f"of {', '.join(partly)}: {PART}"] if partly else ())


def waiting(rows: Sequence[Mapping[str, Any]]) -> str:
    """Roles that somebody asked for."""
    return "\n".join(map(_asked, rows)) or "Nothing waits."


def _asked(one: Mapping[str, Any]) -> str:
    """In full, however much it is: somebody is to say yes to it."""
    gains, before = (", ".join(one[name]) or "nothing" for name in ("gains", "before"))
    lines = (
        f"{one['id']}  {one['principal']} is to gain {gains}",
        f"and then to hold {', '.join(one['roles'])}, instead of {before}",
        f"asked by {one['who']} at {one['when']}: {one['why']}",
        f"approved by {', '.join(one['approvals']) or 'nobody'}; {counted(one['missing'], 'approval')} to come",
    )
    return "\n    ".join(map(harmless, lines))


def given(made: Mapping[str, Any], **_: Any) -> str:
    """What somebody holds from now on, or on whom that waits."""
    roles = ", ".join(made["roles"]) or "nothing"
    if made["missing"]:
        return f"{made['principal']} is to hold: {roles}; it {waits(made, made['id'], 'review approve')}"
    return f"{made['principal']} now holds: {roles}."


def begun(asked: Mapping[str, Any], **_: Any) -> str:
    """An emergency, or on whom it waits."""
    left = f"; it {waits(asked, asked['id'], 'break-glass approve')}" if asked["missing"] else ""
    return f"{asked['text']}{left}"
