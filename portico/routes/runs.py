"""`/runs`: start a run, list, read, follow, answer and cancel runs. A run belongs to its principal; to others it does not exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from portico.errors import (
    BodyTooLarge,
    ContractViolation,
    InsufficientScope,
    MalformedBody,
    MalformedHeader,
    NotAcceptable,
    NotRedeliverable,
    NotWaiting,
    StoreUnavailable,
    Suspended,
    UnknownAgent,
    UnknownOperation,
    UnknownRun,
    UnsupportedMediaType,
)
from portico.operations.contract import faults_of
from portico.routes.admin import demand_admin, is_admin, may_admin
from portico.routes.allowances import allowance_headers
from portico.routes.audited import audited
from portico.routes.exchange import CALL, JSON, PRINCIPAL, REQUEST_ID, SCOPES, check_media_type, parse, prefix, read_body
from portico.routes.exchange import idempotency_key as key_of
from portico.routes.json_lines import JSON_LINES
from portico.routes.moments import Moment, MomentHeader
from portico.routes.problems import documented
from portico.routes.server_sent_events import EVENT_STREAM
from portico.routes.usage import RunUsage
from portico.runs.audit_entry import AuditAction
from portico.runs.call import Call
from portico.runs.callback import CallbackStatus
from portico.runs.printing import printed
from portico.runs.run import LABELS
from portico.runs.run_view import printable_view, reference
from portico.runs.status import RunStatus
from portico.runs.store import RunQuery
from portico.runs.summary import summary_of
from portico.traceparent import well_formed
from portico.webhooks.guard import LONGEST as MAX_URL
from portico.webhooks.guard import ClosedError
from portico.webhooks.signature import ID, SIGNATURE, TIMESTAMP

if TYPE_CHECKING:
    from datetime import datetime

    from portico.kernel.clock import Clock
    from portico.routes.face import Face
    from portico.runs.run import Run

MAX_DELAY = 10 * 365 * 86400.0
"""Seconds: what is to run later than in ten years, nobody means."""
RUN_ID = r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$"
"""What a run's id may look like: it stands in paths."""
MAX_PAGE = 500
"""How many runs one page may have."""
RUN_ENDED = "run-ended"
"""What the audit trail has for a cancellation that came too late."""
OF_A_BODY = (MalformedBody, BodyTooLarge, UnsupportedMediaType)
"""The problems that a body may have, whatever it is for."""
EXAMPLE_ID = "0b8f3a52d1c94e67"
EXAMPLE_TIME = "2026-01-31T09:30:00Z"
"""What stands for an id and a time in examples."""
RunId = Annotated[str, Path(description="The run's id.", examples=[EXAMPLE_ID])]
LastEventId = Annotated[str, WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,18}$"})]


class NewRun(BaseModel):
    """A call that nobody waits for."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"agent": "echo", "payload": {"text": "hello"}}]})

    agent: str = Field(description="The agent's name.")
    operation: str | None = Field(None, description="What it is asked; its only operation unless given.")
    payload: Any = Field(None, description="The request, as the operation's contract has it.")
    run_id: str | None = Field(
        None,
        pattern=RUN_ID,
        description="The run's id, where you choose it: the same id never runs twice.",
    )
    delay: float | None = Field(
        None,
        ge=0,
        le=MAX_DELAY,
        strict=True,
        allow_inf_nan=False,
        description="Seconds to wait before it is delivered; survives a restart.",
    )
    delay_until: Moment | None = Field(None, description="When it is to be delivered, instead of `delay`: RFC 3339.")
    metadata: dict[str, Any] | None = Field(None, description="Kept with the run, and shown to the handler as `ctx.metadata`.")
    labels: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=256)]] | None = Field(
        None,
        max_length=32,
        description="Short texts by name, such as `project` or `phase`: kept with the run, and told with its events.",
        examples=[{"project": "atlas", "phase": "draft"}],
    )
    callback_url: str | None = Field(
        None,
        max_length=MAX_URL,
        description="Where the run's end is told, by a signed request: on the open Internet, unless its host was opened.",
    )


class RunReference(BaseModel):
    """Enough to find a run again."""

    run_id: str = Field(examples=[EXAMPLE_ID])
    status: RunStatus = Field(examples=["queued"])


class RunError(BaseModel):
    """Why a run has no output."""

    slug: str
    detail: str


class RunWait(BaseModel):
    """What a run waits for."""

    model_config = ConfigDict(populate_by_name=True)

    kind: str = Field(description="`input`: somebody's answer, by `POST /runs/{id}/input`. `sleep`: a time.")
    until: str | None = Field(description="RFC 3339, UTC; null without limit.")
    prompt: str | None = Field(None, description="What is asked.")
    schema_: dict[str, Any] | None = Field(None, alias="schema", description="JSON Schema of the answer; null for anything.")
    asks: str | None = Field(
        None,
        description="Whom, where that is not somebody who fills something in. `visit`: somebody who opens an address. "
        "`sample`: a model that writes the next message. `roots`: the caller's program, for its folders.",
    )
    params: dict[str, Any] | None = Field(None, description="What belongs to that: `url`, or the chat of a model.")
    questions: dict[str, Any] | None = Field(
        None, description="Where several things are asked at once: each by its name, under which the answer has it."
    )


class RunCallback(BaseModel):
    """How far it has come to tell of a run's end."""

    url: str
    status: CallbackStatus
    attempts: int = Field(description="How often it was sent, since it was last asked for.")
    next_at: str | None = Field(
        description="When it is sent (again). RFC 3339, UTC; null before the run's end, and when it is not."
    )
    last_status: int | None = Field(description="The HTTP status of the last answer; null where there was none.")
    last_error: str | None = Field(description="Why the last attempt has failed.")
    delivered_at: str | None = Field(description="When its receiver has taken it. RFC 3339, UTC.")


class RunRecord(RunReference):
    """A run's record."""

    parent_id: str | None = Field(description="The run whose handler sent it.", examples=[None])
    agent: str = Field(examples=["echo"])
    operation: str = Field(examples=["echo"])
    created_at: str = Field(description="RFC 3339, UTC.", examples=[EXAMPLE_TIME])
    due_at: str | None = Field(description="When it is to be delivered, where that is not at once. RFC 3339, UTC.", examples=[None])
    finished_at: str | None = Field(description="RFC 3339, UTC; null while it runs.", examples=[None])
    attempts: int = Field(description="How often its handling has begun.")
    last_event_id: int = Field(description="The number of its newest event: where its stream ends, or goes on.")
    input: Any = Field(description="The request, where it is stored: without its secret fields.", examples=[{"text": "hello"}])
    output: Any = Field(description="The reply; null while there is none.", examples=[None])
    error: RunError | None = Field(examples=[None])
    waiting_for: RunWait | None = Field(examples=[None])
    metadata: dict[str, Any]
    labels: dict[str, str] = Field(description="The labels among its metadata.")
    callback: RunCallback | None = Field(description="Who is told of its end; null for nobody.", examples=[None])
    stored: bool = Field(description="Whether it is in the store, or only remembered: a plain ask.")
    principal: str | None = Field(None, description="Whose it is: for admins, where callers are known.", examples=[None])
    usage: RunUsage | None = Field(description="What models took in it; null where none was called.", examples=[None])


class ToolTally(BaseModel):
    """How often a tool was called."""

    calls: int
    errors: int = Field(description="Those among the calls that failed.")


class RunSummary(BaseModel):
    """A run in a few numbers, counted from its events."""

    turns: int = Field(description="How often a model was called.", examples=[2])
    tools: dict[str, ToolTally] = Field(description="The tools that models called, by name.")
    attempts: int = Field(description="How often its handling has begun.", examples=[1])
    recoveries: int = Field(description="How often it was handled again after a crash.", examples=[0])
    retries: int = Field(description="How often a step of it was tried again.", examples=[0])
    waits: int = Field(description="How often it has waited for an answer.", examples=[0])
    complete: bool = Field(description="Whether all its events were counted; of very many only the first are, and some are gone.")


class RunDetails(RunRecord):
    """A run's record, with its summary."""

    summary: RunSummary | None = Field(description="With `summary=true`, else null.", examples=[None])


class RunPage(BaseModel):
    """Some runs, the newest first."""

    runs: list[RunRecord]
    next: str | None = Field(description="Pass it as `before` for the next page; null on the last.", examples=[None])


def _told() -> dict[str, Any]:
    """The request that a callback is, as OpenAPI has it (Callback Object, OAS 3.1 §4.8.18)."""
    headers = {ID: "The same at every attempt.", TIMESTAMP: "Seconds since the epoch.", SIGNATURE: "`v1,` and base64; see above."}
    text: dict[str, Any] = {"type": "string"}
    properties = {"type": text, "timestamp": {**text, "format": "date-time"}, "data": {"$ref": "#/components/schemas/RunRecord"}}
    schema = {"type": "object", "required": list(properties), "properties": properties}
    return {
        "operationId": "run_ended",
        "summary": "Told of the run's end",
        "description": "Signed as Standard Webhooks has it, and sent again for three days until it is taken.",
        "parameters": [
            {"name": name, "in": "header", "required": True, "description": about, "schema": text}
            for name, about in headers.items()
        ],
        "requestBody": {"required": True, "content": {JSON.decode(): {"schema": schema}}},
        "responses": {
            "2XX": {"description": "It is taken."},
            "410": {"description": "No more of it is wanted."},
            "default": {"description": "It is sent again later."},
        },
    }


NEW_RUN: dict[str, Any] = {
    "requestBody": {"required": True, "content": {JSON.decode(): {"schema": NewRun.model_json_schema()}}},
    "callbacks": {"runEnded": {"{$request.body#/callback_url}": {"post": _told()}}},
}
"""The body of `POST /runs` as OpenAPI has it: FastAPI does not read it, for it takes NaN and bodies of any length."""
INPUT: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {JSON.decode(): {"schema": {}, "example": {"approved": True}}},
    }
}
"""The body of `POST /runs/{id}/input`: any JSON, as the run's own schema has it."""


EVENTS: dict[str, Any] = {"description": "The events.", "content": {JSON_LINES[0]: {"schema": {"type": "string"}}}}
"""The answer of `GET /runs/{id}/events`, beside the form that FastAPI knows of."""


class _Events(Response):
    """What FastAPI believes to return."""

    media_type = EVENT_STREAM


def runs_router(face: Face) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/runs", tags=["runs"])
    _routes_of_all(router, face)
    _routes_of_one(router, face)
    return router


def call_of(body: NewRun, request: Request, face: Face, key: str | None, delay_until: datetime | None = None) -> Call:
    """The call that starts a run. `delay_until`: as a header says it.

    Raises:
        UnknownAgent, UnknownOperation: nobody is there to be asked that.
        ContractViolation: a time that is said twice, a callback that cannot be.
    """
    return Call(
        face.dispatcher.catalogue.find(body.agent, body.operation),
        body.payload if "payload" in body.model_fields_set else {},
        timeout=face.run_timeout,
        principal=request.scope.get(PRINCIPAL),
        scopes=request.scope.get(SCOPES),
        address=request.client.host if request.client else None,
        request_id=request.scope.get(REQUEST_ID),
        traceparent=well_formed(request.headers.get("traceparent")),
        idempotency_key=key,
        run_id=body.run_id,
        due=_due(body, delay_until, face.dispatcher.book.clock),
        metadata=body.metadata if body.labels is None else {**(body.metadata or {}), LABELS: body.labels},
        callback_url=_callback(body, face),
    )


def _routes_of_all(router: APIRouter, face: Face) -> None:
    book = face.dispatcher.book

    @router.post(
        "",
        status_code=202,
        response_model=RunReference,
        summary="Start a run",
        operation_id="start_run",
        openapi_extra=NEW_RUN,
        responses=documented(
            *OF_A_BODY, MalformedHeader, InsufficientScope, UnknownAgent, UnknownOperation, Suspended, 422, 429, 503
        ),
    )
    async def start(  # pyright: ignore[reportUnusedFunction]
        request: Request,
        response: Response,
        idempotency_key: Annotated[str | None, Header(description="The same key never runs twice; kept for 24 hours.")] = None,
        delay_until: Annotated[MomentHeader | None, Header(description="As in the body: RFC 3339.")] = None,
    ) -> Any:
        """Accept a call that nobody waits for: it is stored when this is answered. `Location` is where to find the run."""
        body = await _new_run(request, face.body_limit)
        key = key_of(idempotency_key.encode("latin-1") if idempotency_key is not None else None)
        call = call_of(body, request, face, key, delay_until)
        request.scope[CALL] = call
        run = await face.dispatcher.submit(call)
        response.headers["location"] = f"{prefix(request.scope)}/runs/{run.run_id}"
        response.raw_headers.extend(allowance_headers(call.allowance))
        if call.replayed:
            response.headers["idempotency-replayed"] = "true"
        return reference(run)

    @router.get(
        "",
        response_model=RunPage,
        summary="List runs",
        operation_id="list_runs",
        responses=documented(UnknownRun, ContractViolation, InsufficientScope),
    )
    async def page(  # noqa: PLR0917  # FastAPI gives them by name  # pyright: ignore[reportUnusedFunction]
        request: Request,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="How many, at most.")] = 50,
        before: Annotated[str | None, Query(description="Only those older than this run: `next` of the page before.")] = None,
        status: Annotated[RunStatus | None, Query(description="Only those that are there.")] = None,
        agent: Annotated[str | None, Query(description="Only those of this agent.")] = None,
        parent: Annotated[str | None, Query(description="Only those that this run's handler sent.")] = None,
        everyone: Annotated[bool, Query(description="Those of all callers: for admins.")] = False,  # noqa: FBT002  # a query parameter
        principal: Annotated[str | None, Query(description="Only those of this caller; of another one: for admins.")] = None,
        id: Annotated[str | None, Query(description="Only those whose id begins so.", max_length=128)] = None,  # noqa: A002  # its name
    ) -> Any:
        """Your runs, the newest first; with `everyone`, which needs the scope `admin`, those of all callers."""
        own = request.scope.get(PRINCIPAL)
        if everyone or (principal is not None and principal != own):
            demand_admin(request, "The runs of others")
        older = None
        if before is not None:
            last = await book.find(before, own, everyone=may_admin(request))
            older = (last.created, last.run_id)
        query = RunQuery(
            principal=own if principal is None else principal,
            everyone=everyone and principal is None,
            status=status,
            agent=agent,
            parent=parent,
            prefix=id,
            before=older,
            limit=limit + 1,
        )
        runs = await book.page(query)
        more = len(runs) > limit
        return _json({"runs": [_shown(run, request) for run in runs[:limit]], "next": runs[limit - 1].run_id if more else None})


def _routes_of_one(router: APIRouter, face: Face) -> None:
    book = face.dispatcher.book

    async def owned(run_id: RunId, request: Request) -> Run:
        """Raises `UnknownRun` where it is somebody else's, unless an admin asks."""
        return await book.find(run_id, request.scope.get(PRINCIPAL), everyone=may_admin(request))

    @router.get(
        "/{run_id}",
        response_model=RunDetails,
        summary="Read a run",
        operation_id="read_run",
        responses=documented(UnknownRun, ContractViolation),
    )
    async def read(  # pyright: ignore[reportUnusedFunction]
        run_id: RunId,
        request: Request,
        wait: Annotated[float, Query(ge=0, le=300, allow_inf_nan=False, description="Seconds to wait for its end.")] = 0,
        summary: Annotated[bool, Query(description="Count its events, too: not for who asks often.")] = False,  # noqa: FBT002  # a query parameter
    ) -> Any:
        """A run's status, output or error."""
        run = await owned(run_id, request)
        if wait:
            await face.ended_within_or_drained(run, wait)
        return _json({**_shown(run, request), "summary": await summary_of(run) if summary else None})

    @router.get(
        "/{run_id}/events",
        status_code=200,
        summary="Follow a run",
        operation_id="follow_run",
        response_class=_Events,
        response_model=None,
        responses={200: EVENTS, **documented(MalformedHeader, NotAcceptable, UnknownRun)},
    )
    async def events(  # pyright: ignore[reportUnusedFunction]
        run_id: RunId,
        last_event_id: Annotated[LastEventId | None, Header(description="Only the events after this one.")] = None,
    ) -> None:
        """A run's events: the backlog, then live, until the last one. `Last-Event-ID` resumes.

        As Server-Sent Events, or as JSON lines where `Accept` wants those more.
        """
        # Here for its documentation: `RunEvents` answers, before a request comes as far as this.

    @router.post(
        "/{run_id}/cancel",
        response_model=RunRecord,
        summary="Cancel a run",
        operation_id="cancel_run",
        responses=documented(UnknownRun, StoreUnavailable),
    )
    async def cancel(run_id: RunId, request: Request) -> Any:  # pyright: ignore[reportUnusedFunction]
        """Cancel a run: its handler and what that waits for. A run that has ended stays as it is."""
        with audited(face.dispatcher.audit, request.scope, AuditAction.CANCEL, run_id=run_id) as about:
            run = await owned(run_id, request)
            about.of(run)
            if run.done:
                about.idle = RUN_ENDED
            await book.cancel(run)
        return _json(_shown(run, request))

    @router.post(
        "/{run_id}/input",
        response_model=RunRecord,
        summary="Answer a run",
        operation_id="answer_run",
        openapi_extra=INPUT,
        responses=documented(*OF_A_BODY, MalformedHeader, UnknownRun, NotWaiting, ContractViolation, StoreUnavailable),
    )
    async def answer(run_id: RunId, request: Request) -> Any:  # pyright: ignore[reportUnusedFunction]
        """Give a run the input that it waits for: the body is the input. Only the first answer counts."""
        with audited(face.dispatcher.audit, request.scope, AuditAction.ANSWER, run_id=run_id) as about:
            run = await owned(run_id, request)
            about.of(run)
            headers = dict(request.scope["headers"])
            text = await read_body(request.receive, headers, face.body_limit)
            check_media_type(headers.get(b"content-type", b""))
            await book.answer(run, parse(text))
        return _json(_shown(run, request))

    @router.post(
        "/{run_id}/callback/redeliver",
        status_code=202,
        response_model=RunReference,
        summary="Tell of a run's end again",
        operation_id="redeliver_callback",
        responses=documented(UnknownRun, NotRedeliverable, StoreUnavailable),
    )
    async def redeliver(run_id: RunId, request: Request) -> Any:  # pyright: ignore[reportUnusedFunction]
        """Send the callback of a run that has ended again, from the first attempt on, whatever became of it."""
        with audited(face.dispatcher.audit, request.scope, AuditAction.REDELIVER, run_id=run_id) as about:
            run = await owned(run_id, request)
            about.of(run)
            await face.callbacks.redeliver(run)
        return reference(run)


def _callback(body: NewRun, face: Face) -> str | None:
    """Where a new run's end is to be told. Raises `ContractViolation` where it cannot be."""
    if body.callback_url is not None:
        try:
            face.callbacks.check(body.callback_url)
        except ClosedError as error:
            fault = {"path": "/callback_url", "message": str(error), "type": "callback"}
            raise ContractViolation("POST /runs", [fault]) from None
    return body.callback_url


def _due(body: NewRun, header: datetime | None, clock: Clock) -> float | None:
    """When a new run is to be delivered: seconds since the epoch. Raises `ContractViolation` where it is said twice."""
    said = [one for one in (body.delay, body.delay_until, header) if one is not None]
    if len(said) > 1:
        fault = {
            "path": "/delay_until",
            "message": "Give delay, delay_until or the header Delay-Until, not several",
            "type": "conflict",
        }
        raise ContractViolation("POST /runs", [fault])
    until = body.delay_until or header
    if until is not None:
        due = min(until.timestamp(), clock.time() + MAX_DELAY)
        return due if due > clock.time() else None
    return clock.time() + body.delay if body.delay else None


async def _new_run(request: Request, limit: int) -> NewRun:
    """The body of `POST /runs`. Raises `BadRequest` or `ContractViolation`."""
    try:
        return NewRun.model_validate(await json_body(request, limit))
    except ValidationError as error:
        raise ContractViolation("POST /runs", faults_of(error)) from None


async def json_body(request: Request, limit: int) -> Any:
    """A body by the rules that every body has, `{}` where there is none. Raises `BadRequest`."""
    headers = dict(request.scope["headers"])
    text = await read_body(request.receive, headers, limit)
    if text:
        check_media_type(headers.get(b"content-type", b""))
    return parse(text) if text else {}


def _shown(run: Run, request: Request) -> dict[str, Any]:
    """A run's record, and to an admin whose it is."""
    return {**printable_view(run), "principal": run.principal} if is_admin(request.scope) else printable_view(run)


def _json(content: Any) -> Response:
    """A response that FastAPI leaves as it is."""
    return Response(printed(content), media_type=JSON.decode())
