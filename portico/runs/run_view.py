"""How a run looks to whoever may see it: plain data, the same through every face."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from portico.runs.failure import stored
from portico.runs.printing import printable, printed
from portico.runs.usage import NANO, total
from portico.runs.waiting import INPUT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portico.runs.callback import Callback
    from portico.runs.dead_letters import DeadLetter
    from portico.runs.event import Event
    from portico.runs.run import Run
    from portico.runs.usage import Usage, UsageGroup, UsageRow


def reference(run: Run) -> dict[str, Any]:
    """Enough to find it again."""
    return {"run_id": run.run_id, "status": run.status.value}


def view(run: Run) -> dict[str, Any]:
    """The whole record; times in RFC 3339, UTC."""
    record, waits = run.record, run.waiting
    due = record.due if record is not None else None
    error = stored(run.error) if run.error is not None else None
    return {
        "run_id": run.run_id,
        "parent_id": run.parent,
        "agent": run.agent,
        "operation": run.operation,
        "status": run.status.value,
        "created_at": rfc3339(run.created),
        "due_at": rfc3339(due) if due is not None else None,
        "finished_at": rfc3339(run.finished) if run.finished is not None else None,
        "attempts": run.attempts,
        "last_event_id": run.last_visible,
        "input": record.payload if record is not None else None,
        "output": run.shown_output,
        "error": None if error is None else {"slug": error["slug"], "detail": error["detail"]},
        "waiting_for": None if waits is None else _wait(waits),
        "metadata": dict(run.metadata),
        "labels": dict(run.labels),
        "callback": None if record is None or record.callback is None else callback_view(record.callback, ended=run.done),
        "stored": run.stored,
        "usage": run_usage_view(run.usage) if run.usage else None,
    }


def run_usage_view(rows: Sequence[UsageRow]) -> dict[str, Any]:
    """What models took in a run, and which they were."""
    return {**usage_view(total(rows)), "models": sorted({row.model for row in rows})}


def usage_report(groups: Sequence[UsageGroup], everything: UsageGroup, limit: int) -> dict[str, Any]:
    """At most `limit` groups, and the sum of all."""
    rows = [{**group.keys, **usage_view(group.usage)} for group in groups[:limit]]
    return {"rows": rows, "total": usage_view(everything.usage), "truncated": len(groups) > limit}


def usage_view(usage: Usage) -> dict[str, Any]:
    """Sums. A number is null where nothing of it is known; where only a part is, `unpriced_calls` and `unknown_calls` say so."""
    none_known = usage.calls > 0 and usage.unknown_calls == usage.calls
    tokens = ("tokens_in", "tokens_out", "tokens_cached", "tokens_cache_written", "tokens_reasoning")
    shown = {name: getattr(usage, name) for name in tokens}
    return {
        "calls": usage.calls,
        "failed_calls": usage.failed_calls,
        **{name: None if none_known and not value else value for name, value in shown.items()},
        "cost_usd": None if usage.calls > 0 and usage.unpriced_calls == usage.calls else usage.cost / NANO,
        "unpriced_calls": usage.unpriced_calls,
        "unknown_calls": usage.unknown_calls,
        "seconds": usage.duration_us / 1_000_000,
    }


def printable_view(run: Run) -> dict[str, Any]:
    """The record, so that it can be printed: one agent's odd reply must not hide every other run of a list."""
    record = view(run)
    return {**record, "output": printable(record["output"]), "input": printable(record["input"])}


def event_line(event: Event, data: Any) -> bytes:
    """An event as a line of JSON, with this data in place of its own; its time in RFC 3339, UTC."""
    at = rfc3339(event.timestamp).encode()
    return b'{"seq":%d,"type":%s,"at":"%s","data":%s}\n' % (event.seq, printed(event.type), at, printed(data))


def callback_view(callback: Callback, *, ended: bool) -> dict[str, Any]:
    """A callback; times in RFC 3339, UTC. It is due when its run has `ended`, and not before."""
    return {
        "url": callback.url,
        "status": callback.status.value,
        "attempts": callback.attempts,
        "next_at": rfc3339(callback.next_at) if ended and callback.next_at is not None else None,
        "last_status": callback.last_status,
        "last_error": callback.last_error,
        "delivered_at": rfc3339(callback.delivered_at) if callback.delivered_at is not None else None,
    }


def dead_letter_view(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter; times in RFC 3339, UTC."""
    return {
        "id": letter.id,
        "run_id": letter.run_id,
        "agent": letter.agent,
        "operation": letter.operation,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "created_at": rfc3339(letter.created),
        "payload": letter.payload,
    }


def _wait(waits: Any) -> dict[str, Any]:
    until = waits.get("until")
    about: dict[str, Any] = {"kind": waits["kind"], "until": rfc3339(until) if until is not None else None}
    if waits["kind"] == INPUT:
        about |= {"prompt": waits["prompt"], "schema": waits.get("schema")}
        about |= {key: waits[key] for key in ("asks", "params", "questions") if key in waits}
    return about


def rfc3339(seconds: float, timespec: str = "auto") -> str:
    """Seconds since the epoch as a time of RFC 3339, UTC. `timespec`: how exact, as `datetime.isoformat` has it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")
