"""Event: one numbered line of a run's journal. The catalogue of names stands here and nowhere else.

An agent's own events (`ctx.emit`) have any other name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class EventName(StrEnum):
    """The events that Portico itself writes, and the names that a handler's own should have where they mean the same."""

    STARTED = "run.started"
    """The first event: the call was accepted and delivered."""
    RESTARTED = "run.restarted"
    """The handling began again and went another way: what the handler emitted before this counts no more. `attempt`."""
    WAITING = "run.waiting"
    """The handler waits for somebody's input: `prompt`, `schema`, `until`."""
    RESUMED = "run.resumed"
    """The input has come, or its time is over."""
    TRANSFERRED = "run.transferred"
    """Another agent goes on: `from`, `to`, `reason`."""
    SUCCEEDED = "run.succeeded"
    """The last event: `data.output` is the reply."""
    FAILED = "run.failed"
    """The last event: `data` is the problem."""
    CANCELLED = "run.cancelled"
    """The last event: somebody cancelled it."""
    TIMED_OUT = "run.timed_out"
    """The last event: its deadline passed."""
    STEP_STARTED = "step.started"
    """A step is computed: `name`, `key`."""
    STEP_COMPLETED = "step.completed"
    """Its result is stored, and will not be computed again: `name`, `key`."""
    STEP_RETRYING = "step.retrying"
    """It failed and is tried again: `name`, `key`, `attempt`, `error`."""
    STEP_FAILED = "step.failed"
    """It failed for the last time: `name`, `key`, `error`."""
    STEP_SKIPPED = "step.skipped"
    """Its stored result was used: `name`, `key`."""
    CHECKPOINT = "checkpoint"
    """The handler stored where it is, by `ctx.checkpoint`."""
    PROGRESS = "progress"
    """How far the work is: `done`, `total`, `note`."""
    LOG = "log"
    """The handler tells something, by `ctx.log`: `level` (RFC 5424), `data`, `logger`."""
    METRIC = "metric"
    """The handler notes a number, by `ctx.metric`: `name`, `value`, `unit`, `tags`."""
    DELTA = "delta"
    """A piece of the answer: `text`."""
    ASSISTANT_MESSAGE = "assistant.message"
    """A model's whole message: `content`."""
    MODEL_CALL = "model.call"
    """A model was called: `agent`, `provider`, `model`, `tokens_in`, `tokens_out`, `cost_usd`, `seconds`, `error`."""
    TOOL_CALL = "tool.call"
    """A model calls a tool: `id`, `name`, `arguments`."""
    TOOL_RESULT = "tool.result"
    """A tool answered: `id`, `name`, `result` or `error`."""
    TOOL_SAMPLED = "tool.sampled"
    """A tool of an external server asked the agent's model: `name`, `model`, `tokens_in`, `tokens_out`, `cost_usd`."""
    TOOL_SHADOWED = "tool.shadowed"
    """A model is offered a tool of an external server that has the name of one of its agent's own: `name`, `shadows`."""
    TOOL_REFUSED = "tool.refused"
    """A tool of an external server was not called, or its answer not taken: `name`, `reason`."""


TERMINAL: Final = frozenset({EventName.SUCCEEDED, EventName.FAILED, EventName.CANCELLED, EventName.TIMED_OUT})
"""After one of these, a run has no further event."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the journal."""

    seq: int
    """1 for a run's first event; without gaps."""
    type: str
    """An `EventName`, or a name that an agent chose."""
    data: Any
    """JSON-able data."""
    timestamp: float
    """Seconds since the epoch."""
    source: str | None = None
    """Which handling of the run emitted it: empty for its own, a path such as `2/1` for what it asked; None for Portico itself."""
