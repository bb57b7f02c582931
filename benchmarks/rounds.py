"""Rounds: measure two or more things in turn, A B A B …, and compare medians, since these machines are noisy.

Above: every benchmark. A target is a plain number (the ratio to another figure, at least that) or `Bounds` (the figure itself).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bounds:
    """A target for a figure itself, where no other is its measure."""

    least: float = -math.inf
    most: float = math.inf


def compared(candidates: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """The figure of each candidate in each round, after one round that does not count."""
    for measure in candidates.values():
        measure()
    figures: dict[str, list[T]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, measure in candidates.items():
            figures[name].append(measure())
    return figures


def print_table(
    title: str,
    figures: Mapping[str, list[float]],
    against: str | None,
    targets: Mapping[str, float | Bounds],
    unit: str = "/s",
) -> bool:
    """Print medians, and their ratios to `against` unless that is None. Returns whether every target was met."""
    print(f"\n{title}")
    met = True
    for name, values in figures.items():
        line = f"  {name:<44} {_shown(median(values)):>10}{unit}  [{_shown(min(values))} - {_shown(max(values))}]"
        ratio = math.nan
        if against is not None:
            ratio = median(value / base for value, base in zip(values, figures[against], strict=True))
            line += f"  ratio {ratio:.2f}"
        if name in targets:
            reached, wanted = _judged(targets[name], median(values), ratio)
            met = met and reached
            line += f"  target {wanted}: {'met' if reached else 'MISSED'}"
        print(line, flush=True)
    return met


def _judged(target: float | Bounds, figure: float, ratio: float) -> tuple[bool, str]:
    if not isinstance(target, Bounds):
        return ratio >= target, f"{target:.2f}"
    if target.most < math.inf:
        return figure <= target.most, f"at most {_shown(target.most)}"
    return figure >= target.least, f"at least {_shown(target.least)}"


def _shown(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 1000 else f"{figure:.2f}"
