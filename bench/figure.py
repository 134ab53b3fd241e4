"""What a benchmark says: one value with its unit, its goal, and whether it holds."""

from collections.abc import Iterable, Sequence
from statistics import median

import msgspec
from msgspec import Struct

MARK = {True: "holds", False: "MISSED", None: ""}


class Figure(Struct, frozen=True, kw_only=True):
    """`goal` is a text such as `≥ 0.6`; `holds` is None where there is none. A value of None could not be measured."""

    area: str
    name: str
    value: float | str | None
    unit: str = ""
    goal: str = ""
    holds: bool | None = None


def plain(area: str, name: str, value: float | str, unit: str = "") -> Figure:
    """A figure without a goal."""
    return Figure(area=area, name=name, value=rounded(value), unit=unit)


def at_least(area: str, name: str, value: float, unit: str, least: float) -> Figure:
    return Figure(area=area, name=name, value=rounded(value), unit=unit, goal=f"≥ {least:g}", holds=value >= least)


def at_most(area: str, name: str, value: float, unit: str, most: float) -> Figure:
    return Figure(area=area, name=name, value=rounded(value), unit=unit, goal=f"≤ {most:g}", holds=value <= most)


def unmeasured(area: str, name: str) -> Figure:
    """Something stood in the way; the run says what, and ends with 1."""
    return Figure(area=area, name=name, value=None, goal="measured", holds=False)


def rounded(value: float | str) -> float | str:
    """Three digits that mean something; more would only look exact."""
    if isinstance(value, str) or value == 0:
        return value
    return float(f"{value:.3g}") if abs(value) < 1000 else float(round(value))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, int(-(-share * len(ordered) // 1)) - 1))]


def middle(values: Iterable[float]) -> float:
    return float(median(values))


def to_json(figures: Sequence[Figure]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(list(figures)), indent=2) + b"\n"


def table(figures: Sequence[Figure]) -> str:
    """For people: area by area, in aligned columns."""
    lines: list[str] = []
    width = max((len(one.name) for one in figures), default=0)
    area = ""
    for one in figures:
        if one.area != area:
            area = one.area
            lines.append(f"\n{area}")
        told = f"{_told(one.value):>12} {one.unit:<12} {one.goal:<9} {MARK[one.holds]}"
        lines.append(f"  {one.name:<{width}} {told}".rstrip())
    return "\n".join(lines)


def _told(value: float | str | None) -> str:
    match value:
        case None:
            return "-"
        case str():
            return value
        case _:
            return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"
