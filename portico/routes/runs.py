"""`/runs`: start a run, list runs, read, follow and cancel one. A run belongs to its principal; to others it does not exist."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from portico.errors import ContractViolation, MalformedHeader
from portico.operations.contract import faults_of
from portico.routes.event_stream import EVENT_STREAM, stream
from portico.routes.exchange import JSON, PRINCIPAL, check_media_type, parse, prefix, printable, printed, read_body
from portico.routes.problems import documented
from portico.runs.call import Call
from portico.runs.run_view import reference, view

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from portico.routes.face import Face
    from portico.runs.run import Run

MAX_PAGE = 500
"""How many runs one page may have."""
_EVENT_ID = re.compile(r"[0-9]{1,18}")


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


NEW_RUN: dict[str, Any] = {"requestBody": {"required": True, "content": {JSON.decode(): {"schema": NewRun.model_json_schema()}}}}
"""The body of `POST /runs` as OpenAPI has it: FastAPI does not read it, for it takes NaN and bodies of any length."""


class _Stream(Response):
    """A run's events, for FastAPI to return."""

    media_type = EVENT_STREAM

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

    @router.post(
        "",
        status_code=202,
        response_model=RunReference,
        summary="Start a run",
        openapi_extra=NEW_RUN,
        responses=documented(400, 404, 413, 415, 422, 429, 503),
    )
    async def start(request: Request, response: Response) -> Any:  # pyright: ignore[reportUnusedFunction]
        """Accept a call that nobody waits for. `Location` is where to find the run."""
        body = await _new_run(request, face.body_limit)
        endpoint = face.dispatcher.catalogue.find(body.agent, body.operation)
        address = request.client.host if request.client else None
        call = Call(
            endpoint,
            body.payload if "payload" in body.model_fields_set else {},
            timeout=face.run_timeout,
            principal=request.scope.get(PRINCIPAL),
            address=address,
            traceparent=request.headers.get("traceparent"),
        )
        run = face.dispatcher.start(call)
        response.headers["location"] = f"{prefix(request.scope)}/runs/{run.run_id}"
        return reference(run)

    @router.get("", response_model=RunPage, summary="List runs", responses=documented(422))
    async def page(  # pyright: ignore[reportUnusedFunction]
        request: Request, limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50, before: str | None = None
    ) -> Any:
        """Your runs, the newest first."""
        runs = records.newest(request.scope.get(PRINCIPAL), limit=limit + 1, before=before)
        more = len(runs) > limit
        return _json({"runs": [_record(run) for run in runs[:limit]], "next": runs[limit - 1].run_id if more else None})

    @router.get("/{run_id}", response_model=RunRecord, summary="Read a run", responses=documented(404, 422))
    async def read(  # pyright: ignore[reportUnusedFunction]
        run_id: str,
        request: Request,
        wait: Annotated[float, Query(ge=0, le=300, allow_inf_nan=False, description="Seconds to wait for its end.")] = 0,
    ) -> Any:
        """A run's status, output or error."""
        run = owned(run_id, request)
        if wait:
            await face.ended_within_or_drained(run, wait)
        return _json(_record(run))

    @router.get("/{run_id}/events", status_code=200, summary="Follow a run", response_class=_Stream, responses=documented(400, 404))
    async def events(  # pyright: ignore[reportUnusedFunction]
        run_id: str, request: Request, last_event_id: Annotated[str | None, Header()] = None
    ) -> Response:
        """A run's events as Server-Sent Events: the backlog, then live, until the last one. `Last-Event-ID` resumes."""
        run = owned(run_id, request)
        if last_event_id is not None and not _EVENT_ID.fullmatch(last_event_id):
            raise MalformedHeader(f"Last-Event-ID is {last_event_id!r}: it must be the id of an event of this run.")
        return _Stream(run, face, int(last_event_id or 0))

    @router.post("/{run_id}/cancel", response_model=RunRecord, summary="Cancel a run", responses=documented(404))
    async def cancel(run_id: str, request: Request) -> Any:  # pyright: ignore[reportUnusedFunction]
        """Cancel a run: its handler and what that waits for. A run that has ended stays as it is."""
        run = owned(run_id, request)
        run.cancel()
        return _json(_record(run))

    return router


async def _new_run(request: Request, limit: int) -> NewRun:
    """The body, by the rules that every body has. Raises `BadRequest` or `ContractViolation`."""
    headers = dict(request.scope["headers"])
    text = await read_body(request.receive, headers, limit)
    if text:
        check_media_type(headers.get(b"content-type", b""))
    try:
        return NewRun.model_validate(parse(text) if text else {})
    except ValidationError as error:
        raise ContractViolation("POST /runs", faults_of(error)) from None


def _record(run: Run) -> dict[str, Any]:
    """A run's record with an output that can be printed: one agent's odd reply must not hide every other run of a list."""
    record = view(run)
    return {**record, "output": printable(record["output"])}


def _json(content: Any) -> Response:
    """A response that FastAPI leaves as it is."""
    return Response(printed(content), media_type=JSON.decode())
