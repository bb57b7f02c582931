"""Task form: a run as a task of the extension `io.modelcontextprotocol/tasks` (SEP-2663). Task ids are run ids.

Above: `tasks.py`, which answers for tasks, and `long_call.py`, which makes them. Below: the run. It sends nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from mcp.types import INTERNAL_ERROR, CallToolResult

from portico.errors import (
    AgentCrashed,
    CallerCannotAnswer,
    Interrupted,
    PorticoError,
    ProcessExited,
    StoreUnavailable,
    UnknownAgent,
)
from portico.mcp_bridge.serving.errors import INTERNAL
from portico.mcp_bridge.serving.input_requests import input_requests, lacking
from portico.runs.commit import StoreCommit
from portico.runs.event import EventName
from portico.runs.run_view import rfc3339
from portico.runs.status import RunStatus
from portico.runs.waiting import INPUT, questions_of, responses_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.types import ClientCapabilities

    from portico.kernel.runtime import Runtime
    from portico.runs.run import Run

POLL_INTERVAL: Final = 1000
"""Milliseconds after which a client may ask again."""

GIVEN_UP: Final = (AgentCrashed, ProcessExited, Interrupted, UnknownAgent, StoreUnavailable)
"""Errors that are no result of a tool: its handling was given up."""


def created(run: Run, runtime: Runtime) -> dict[str, Any]:
    """What answers a call that has become a task: a `CreateTaskResult`."""
    status = "input_required" if _waits_for_input(run) else "working"
    return {"resultType": "task", **_task(run, runtime, "working" if run.done else status)}


def detailed(run: Run, runtime: Runtime, declared: ClientCapabilities | None, result: CallToolResult | None) -> dict[str, Any]:
    """What answers `tasks/get`: a `DetailedTask`. `result`: of a run that has ended, what its call would have been answered."""
    if run.status is RunStatus.CANCELLED:
        return _task(run, runtime, "cancelled")
    if run.done and (result is None or _given_up(run.error)):
        return {**_task(run, runtime, "failed"), "error": _error(run.error)}
    if result is not None and run.done:
        return {**_task(run, runtime, "completed"), "result": result.model_dump(by_alias=True, mode="json", exclude_none=True)}
    requests = _requests(run, declared)
    if requests:
        return {**_task(run, runtime, "input_required"), "inputRequests": requests}
    return _task(run, runtime, "working")


def _task(run: Run, runtime: Runtime, status: str) -> dict[str, Any]:
    task: dict[str, Any] = {
        "taskId": run.run_id,
        "status": status,
        "createdAt": rfc3339(run.created, "milliseconds"),
        "lastUpdatedAt": rfc3339(_updated(run), "milliseconds"),
        "ttlMs": _ttl(runtime),
        "pollIntervalMs": POLL_INTERVAL,
    }
    message = _message(run)
    return {**task, "statusMessage": message} if message else task


def _updated(run: Run) -> float:
    if run.finished is not None:
        return run.finished
    return max(run.created, run.backlog()[-1].timestamp)


def _ttl(runtime: Runtime) -> int | None:
    """Milliseconds that a task can be found, from its beginning at least; None where no time is set."""
    commit = runtime.services.commit
    if not isinstance(commit, StoreCommit) or not commit.store.durable or commit.retention.runs_for is None:
        return None
    return max(1, int(commit.retention.runs_for * 1000))


def _message(run: Run) -> str:
    """How far it is, for people: what it waits for, else what it told last of its progress."""
    if run.waiting is not None and run.waiting["kind"] == INPUT:
        return str(run.waiting["prompt"])
    if run.done:
        return ""
    for event in reversed(run.backlog()):
        data: Any = event.data
        if event.type == EventName.PROGRESS and isinstance(data, dict):
            note = cast("dict[str, Any]", data).get("note")
            return note if isinstance(note, str) else ""
    return ""


def _waits_for_input(run: Run) -> bool:
    return run.waiting is not None and run.waiting["kind"] == INPUT


def _requests(run: Run, declared: ClientCapabilities | None) -> Mapping[str, Any]:
    """What the client is still to answer: nothing where it has not declared that it can be asked that."""
    waits_for = run.waiting
    if waits_for is None or not _waits_for_input(run) or lacking(waits_for, declared) is not None:
        return {}
    try:
        asked = input_requests(waits_for, run_id=run.run_id)
    except CallerCannotAnswer:  # somebody else may answer, by `POST /runs/{id}/input`
        return {}
    answered = responses_of(waits_for)
    return {
        name: request.model_dump(by_alias=True, mode="json", exclude_none=True)
        for name, request in asked.items()
        if name in questions_of(waits_for) and name not in answered
    }


def _given_up(error: BaseException | None) -> bool:
    return error is not None and (isinstance(error, GIVEN_UP) or not isinstance(error, PorticoError))


def _error(error: BaseException | None) -> dict[str, Any]:
    """A JSON-RPC error."""
    if not isinstance(error, PorticoError):
        return {"code": INTERNAL_ERROR, "message": INTERNAL}
    return {"code": INTERNAL_ERROR, "message": error.detail, "data": {"slug": error.slug}}
