"""Rounds: measure two or more things in turn, A B A B …, and compare medians, since these machines are noisy."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def compared(candidates: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """The figure of each candidate in each round, after one round that does not count."""
    for measure in candidates.values():
        measure()
    figures: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, measure in candidates.items():
            figures[name].append(measure())
    return figures


def print_table(title: str, figures: Mapping[str, list[float]], against: str, targets: Mapping[str, float]) -> bool:
    """Print medians per second and their ratios to `against`. Returns whether every target was met."""
    print(f"\n{title}")
    met = True
    for name, values in figures.items():
        ratio = median(value / base for value, base in zip(values, figures[against], strict=True))
        target = targets.get(name)
        verdict = ""
        if target is not None:
            met = met and ratio >= target
            verdict = f"  target {target:.2f}: {'met' if ratio >= target else 'MISSED'}"
        print(f"  {name:<44} {median(values):>10,.0f}/s  [{min(values):,.0f} - {max(values):,.0f}]  ratio {ratio:.2f}{verdict}")
    return met
