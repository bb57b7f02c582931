"""Records: what a gateway tells of runs, events and dead letters, as the client shows it. What it tells beyond that is passed over.

Below: plain JSON data. `KeyError`, `TypeError` and `ValueError` of the readers mean that somebody else answered.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

SUCCEEDED: Final = "run.succeeded"
"""The last event of a run that has an output."""
TERMINAL: Final = frozenset({SUCCEEDED, "run.failed", "run.cancelled", "run.timed_out"})
"""After one of these, a run has no further event."""
ENDS: Final = frozenset({"succeeded", "failed", "cancelled", "timed_out"})
"""The statuses of a run that has ended."""
GAP: Final = "gap"
"""The type of an event without number: others were removed before they were read. Its data: `from`, `to`."""


@dataclass(frozen=True, slots=True)
class RunReference:
    """Enough to find a run again."""

    run_id: str
    status: str
    """What it was when this was answered: `queued`, `running`, `waiting`, or one of its ends."""
    replayed: bool = False
    """Whether an earlier request with the same key, or the same `run_id`, had started it."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run's record."""

    run_id: str
    parent_id: str | None
    """The run whose handler sent it."""
    agent: str
    operation: str
    status: str
    """`queued`, `running`, `waiting`, `succeeded`, `failed`, `cancelled` or `timed_out`."""
    created_at: datetime
    due_at: datetime | None
    """When it is to be delivered, where that is not at once."""
    finished_at: datetime | None
    attempts: int
    """How often its handling has begun."""
    last_event_id: int
    input: Any
    output: Any
    error: Mapping[str, Any] | None
    """`slug` and `detail`; None where it has not failed."""
    waiting_for: Mapping[str, Any] | None
    """`kind`, `until`, and of an input `prompt`, `schema` and what else the gateway tells; None where it does not wait."""
    metadata: Mapping[str, Any]
    stored: bool
    """Whether it is in the store, or only remembered: a plain ask."""
    usage: Mapping[str, Any] | None
    """What models took in it: `calls`, `tokens_in`, `tokens_out`, `cost_usd`, `models` …; None where none was called."""
    data: Mapping[str, Any] = field(repr=False)
    """The record as the gateway has it."""

    @property
    def ended(self) -> bool:
        """Whether nothing follows."""
        return self.status in ENDS

    @property
    def succeeded(self) -> bool:
        """Whether it has an output."""
        return self.status == "succeeded"

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """A record as the gateway has it."""
        times = {name: _time(data[name]) for name in ("created_at", "due_at", "finished_at")}
        usage = data.get("usage")  # an older gateway does not tell it
        return cls(**{name: data[name] for name in _RUN if name not in times}, **times, usage=usage, data=data)


_RUN: Final = tuple(name for name in Run.__dataclass_fields__ if name not in {"usage", "data"})


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a run."""

    seq: int | None
    """1 for a run's first event; None for a gap, which has no number."""
    type: str
    data: Any
    at: datetime | None = None

    @property
    def text(self) -> str:
        """The piece of the answer that a `delta` brings; empty for any other event."""
        return str(self.data.get("text", "")) if self.type == "delta" and isinstance(self.data, dict) else ""  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]

    @property
    def is_gap(self) -> bool:
        """Whether it stands for events that were removed: `data` has the first and the last of them, `from` and `to`."""
        return self.seq is None

    @property
    def is_last(self) -> bool:
        """Whether its run has no further event."""
        return self.seq is not None and self.type in TERMINAL


@dataclass(frozen=True, slots=True)
class GatewayEvent:
    """One thing that happened in the gateway."""

    id: str | None
    """Where it stands in the life of the gateway; None for what has no place there, such as `stream.draining`."""
    type: str
    """`hello`, `process.crashed`, `run.accepted`, `figures`, `gap` …"""
    data: Any


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What failed after its retries."""

    id: str
    run_id: str | None
    """Its run; None for a message that a plain ask's handler sent on."""
    agent: str
    operation: str
    reason: str
    attempts: int
    created_at: datetime
    payload: Any
    data: Mapping[str, Any] = field(repr=False)
    """The record as the gateway has it."""

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """A record as the gateway has it."""
        plain = {name: data[name] for name in _LETTER if name != "created_at"}
        return cls(**plain, created_at=datetime.fromisoformat(data["created_at"]), data=data)


_LETTER: Final = tuple(name for name in DeadLetter.__dataclass_fields__ if name != "data")


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What models took, of calls that have something in common. A number is None where nothing of it is known."""

    keys: Mapping[str, str | None]
    """What they have in common, by what was asked for: `day`, `run`, `agent`, `principal`, `provider`, `model`."""
    calls: int
    failed_calls: int
    """Those among the calls that gave no answer."""
    tokens_in: int | None
    tokens_out: int | None
    tokens_cached: int | None
    tokens_cache_written: int | None
    tokens_reasoning: int | None
    cost_usd: float | None
    """US dollars, of the calls that have a price."""
    unpriced_calls: int
    """Calls that have no price: their money is missing in `cost_usd`."""
    unknown_calls: int
    """Calls whose tokens are not known: they are missing in the sums."""
    seconds: float
    """How long the calls took, one after another."""

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """A row as the gateway has it."""
        sums = {name: data[name] for name in _SUMS}
        return cls(keys={name: value for name, value in data.items() if name not in sums}, **sums)


_SUMS: Final = tuple(name for name in UsageRow.__dataclass_fields__ if name != "keys")


@dataclass(frozen=True, slots=True)
class UsageReport:
    """What models took."""

    rows: tuple[UsageRow, ...]
    """By day in the order of days, else those that cost most first."""
    total: UsageRow
    """The sum of all that was asked for, also of rows that are left out."""
    truncated: bool
    """Whether rows are left out: there are more than were asked for."""

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """A report as the gateway has it."""
        return cls(tuple(map(UsageRow.read, data["rows"])), UsageRow.read(data["total"]), data["truncated"])


def _time(text: str | None) -> Any:
    return None if text is None else datetime.fromisoformat(text)
