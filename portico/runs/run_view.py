"""How a run looks to whoever may see it: plain data, the same through every face."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portico.runs.run import Run


def reference(run: Run) -> dict[str, Any]:
    """Enough to find it again."""
    return {"run_id": run.run_id, "status": run.status.value}


def view(run: Run) -> dict[str, Any]:
    """The whole record; times in RFC 3339, UTC."""
    endpoint = run.endpoint
    error = run.error
    return {
        "run_id": run.run_id,
        "agent": endpoint.agent,
        "operation": endpoint.operation.name,
        "status": run.status.value,
        "created_at": _time(run.created),
        "finished_at": _time(run.finished) if run.finished is not None else None,
        "attempts": run.attempts,
        "output": run.output,
        "error": None if error is None else {"slug": getattr(error, "slug", "internal-error"), "detail": str(error)},
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
