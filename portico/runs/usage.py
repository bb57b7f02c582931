"""Usage: what model calls took: tokens, money and time, summed up by who called which model on which day.

Plain data, in and out of every `RunStore`. Above: the ledger, which counts, and the faces, which print. All numbers are whole, so
that a sum is exact in whatever order it was made. What is not known is counted as such, and never taken for zero.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NANO: Final = 1_000_000_000
"""How many of the units of `Usage.cost` make a US dollar. One token costs some ten to ten thousand of them."""


@dataclass(slots=True)
class Usage:
    """Sums over model calls."""

    calls: int = 0
    """How often a model was called."""
    failed_calls: int = 0
    """Those among them that gave no response."""
    tokens_in: int = 0
    """Tokens read, as far as they are known."""
    tokens_out: int = 0
    """Tokens written, as far as they are known."""
    tokens_cached: int = 0
    """Those among the tokens read that came from the provider's cache."""
    tokens_cache_written: int = 0
    """Those among the tokens read that were put into the provider's cache."""
    tokens_reasoning: int = 0
    """Those among the tokens written that nobody is shown."""
    cost: int = 0
    """US dollars by `NANO`, of the calls whose price is known."""
    unpriced_calls: int = 0
    """Calls whose price is not known: their money is missing in `cost`."""
    unknown_calls: int = 0
    """Calls whose number of tokens is not known: they are missing in the sums."""
    duration_us: int = 0
    """Microseconds that the calls took, one after another."""

    def add(self, other: Usage) -> None:
        """Add what other calls took."""
        for name in SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


SUMS: Final = tuple(one.name for one in fields(Usage))
"""The fields of `Usage`, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """What one agent took from one model on one day: in one run, or (without one) in all of them."""

    run_id: str = ""
    """The run; empty for calls outside any, and for sums over all."""
    day: str
    """The day on which the calls ended: `YYYY-MM-DD`, UTC."""
    agent: str
    """The agent that called."""
    principal: str | None = None
    """On whose behalf; None where the gateway knows no name."""
    provider: str = ""
    """Who was called."""
    model: str
    """Which model, as its provider names it."""
    usage: Usage = field(default_factory=Usage)
    """What that took."""


class UsageKey(StrEnum):
    """What usage can be summed up by."""

    DAY = "day"
    """The day, UTC."""
    RUN = "run"
    """The run; as long as runs are kept."""
    AGENT = "agent"
    """The agent."""
    PRINCIPAL = "principal"
    """On whose behalf."""
    PROVIDER = "provider"
    """Who was called."""
    MODEL = "model"
    """The model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """Which usage to sum up, and by what. Every condition that is given must hold."""

    by: Sequence[UsageKey] = ()
    """One group for each combination of these; without any, one for all."""
    everyone: bool = False
    """On whose behalf ever; else that of `principal`, where None stands for callers without a name."""
    principal: str | None = None
    since: str | None = None
    """The first day: `YYYY-MM-DD`."""
    until: str | None = None
    """The last day: `YYYY-MM-DD`."""
    agent: str | None = None
    provider: str | None = None
    model: str | None = None
    run: str | None = None
    limit: int = 1000
    """How many groups at most: by day in the order of days, else those that cost most."""


@dataclass(frozen=True, slots=True)
class UsageGroup:
    """One group."""

    keys: dict[str, str | None]
    """What its calls have in common, by `UsageKey`."""
    usage: Usage
    """What they took."""


def day_of(seconds: float) -> str:
    """The day of a time in seconds since the epoch: `YYYY-MM-DD`, UTC."""
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def key_of(row: UsageRow) -> tuple[str | None, ...]:
    """What rows have in common that can be one."""
    return row.run_id, row.day, row.agent, row.principal, row.provider, row.model


def merged(rows: Iterable[UsageRow]) -> tuple[UsageRow, ...]:
    """The same as fresh rows, each key once."""
    found: dict[tuple[str | None, ...], UsageRow] = {}
    for row in rows:
        there = found.setdefault(key_of(row), replace(row, usage=Usage()))
        there.usage.add(row.usage)
    return tuple(found.values())


def total(rows: Iterable[UsageRow]) -> Usage:
    """The sum."""
    usage = Usage()
    for row in rows:
        usage.add(row.usage)
    return usage


def format_cost(usd: float | Decimal | None) -> str:
    """US dollars for people: `$12.50`, `$0.0042`, `$0.00`; `unknown` for None."""
    if usd is None:
        return "unknown"
    amount = Decimal(str(usd))
    if amount == 0 or abs(amount) >= 1:
        return f"${amount:,.2f}"
    shown = f"{amount:.6f}".rstrip("0")
    if shown in {"0.", "-0."}:
        return "<$0.000001"
    whole, _, part = shown.partition(".")
    return f"${whole}.{part.ljust(2, '0')}"


def row_of(values: dict[str, Any]) -> UsageRow:
    """The row of plain data, as `plain` makes it. Raises `ValueError` where it is none."""
    try:
        rest = dict(values)
        usage = Usage(**{name: int(rest.pop(name)) for name in SUMS if name in rest})
        return UsageRow(usage=usage, **rest)
    except TypeError as error:
        raise ValueError(str(error)) from error


def plain(row: UsageRow) -> dict[str, Any]:
    """A row as plain data, without what is zero or empty."""
    values = asdict(row)
    usage = values.pop("usage")
    return {name: value for name, value in {**values, **usage}.items() if value}
