"""`/runs`: start a run, list runs, read, follow and cancel one. A run belongs to its principal; to others it does not exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from portico.errors import MalformedHeader
from portico.routes.event_stream import stream
from portico.routes.exchange import PRINCIPAL
from portico.runs.call import Call
from portico.runs.run_view import reference, view

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from portico.routes.face import Face
    from portico.runs.run import Run

MAX_PAGE = 500
"""How many runs one page may have."""


class NewRun(BaseModel):
    """A call that nobody waits for."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"agent": "echo", "payload": {"text": "hello"}}]})

    agent: str = Field(description="The agent's name.")
    operation: str | None = Field(None, description="What it is asked; its only operation unless given.")
    payload: Any = Field(None, description="The request, as the operation's contract has it.")


class RunReference(BaseModel):
    """Enough to find a run again."""

    run_id: str
    status: str


class RunError(BaseModel):
    """Why a run has no output."""

    slug: str
    detail: str


class RunRecord(RunReference):
    """A run's record."""

    agent: str
    operation: str
    created_at: str = Field(description="RFC 3339, UTC.")
    finished_at: str | None = Field(description="RFC 3339, UTC; null while it runs.")
    attempts: int = Field(description="How often it was handled; 0 while it runs.")
    output: Any = Field(description="The reply; null while there is none.")
    error: RunError | None


class RunPage(BaseModel):
    """Some runs, the newest first."""

    runs: list[RunRecord]
    next: str | None = Field(description="Pass it as `before` for the next page; null on the last.")


class _Stream(Response):
    """A run's events, for FastAPI to return."""

    def __init__(self, run: Run, face: Face, after: int) -> None:
        super().__init__()
        self._run, self._face, self._after = run, face, after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await stream(scope, receive, send, self._run, self._face, after=self._after)


def runs_router(face: Face) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/runs", tags=["runs"])
    records = face.dispatcher.records

    def owned(run_id: str, request: Request) -> Run:
        return records.get(run_id, request.scope.get(PRINCIPAL))

    @router.post("", status_code=202, response_model=RunReference, summary="Start a run")
    async def start(body: NewRun, request: Request, response: Response) -> Any:  # pyright: ignore[reportUnusedFunction]
        """Accept a call that nobody waits for. `Location` is where to find the run."""
        endpoint = face.dispatcher.catalogue.find(body.agent, body.operation)
        address = request.client.host if request.client else None
        call = Call(
            endpoint,
            {} if body.payload is None else body.payload,
            timeout=face.run_timeout,
            principal=request.scope.get(PRINCIPAL),
            address=address,
            traceparent=request.headers.get("traceparent"),
        )
        run = face.dispatcher.start(call)
        response.headers["location"] = f"{request.scope.get('root_path', '')}/runs/{run.run_id}"
        return reference(run)

    @router.get("", response_model=RunPage, summary="List runs")
    async def page(  # pyright: ignore[reportUnusedFunction]
        request: Request, limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50, before: str | None = None
    ) -> Any:
        """Your runs, the newest first."""
        runs = records.newest(request.scope.get(PRINCIPAL), limit=limit + 1, before=before)
        more = len(runs) > limit
        return {"runs": [view(run) for run in runs[:limit]], "next": runs[limit - 1].run_id if more else None}

    @router.get("/{run_id}", response_model=RunRecord, summary="Read a run")
    async def read(  # pyright: ignore[reportUnusedFunction]
        run_id: str, request: Request, wait: Annotated[float, Query(ge=0, le=300, description="Seconds to wait for its end.")] = 0
    ) -> Any:
        """A run's status, output or error."""
        run = owned(run_id, request)
        if wait:
            await face.ended_within(run, wait)
        return view(run)

    @router.get("/{run_id}/events", summary="Follow a run", responses={200: {"content": {"text/event-stream": {}}}})
    async def events(  # pyright: ignore[reportUnusedFunction]
        run_id: str, request: Request, last_event_id: Annotated[str | None, Header()] = None
    ) -> Response:
        """A run's events as Server-Sent Events: the backlog, then live, until the last one. `Last-Event-ID` resumes."""
        run = owned(run_id, request)
        if last_event_id is not None and not last_event_id.isdecimal():
            raise MalformedHeader(f"Last-Event-ID is {last_event_id!r}: it must be the id of an event of this run.")
        return _Stream(run, face, int(last_event_id or 0))

    @router.post("/{run_id}/cancel", response_model=RunRecord, summary="Cancel a run")
    async def cancel(run_id: str, request: Request) -> Any:  # pyright: ignore[reportUnusedFunction]
        """Cancel a run: its handler and what that waits for. A run that has ended stays as it is."""
        run = owned(run_id, request)
        run.cancel()
        return view(run)

    return router
