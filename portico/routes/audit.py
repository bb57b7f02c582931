"""`/audit`: the audit trail as the journal has it, page by page, as JSON or as JSON Lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from portico.audit.chain import MICROSECONDS, line, shown
from portico.errors import ContractViolation, InsufficientScope, RouteNotFound
from portico.routes.accept import accepted, preferred
from portico.routes.admin import demand_admin
from portico.routes.audited import audited
from portico.routes.exchange import JSON
from portico.routes.json_lines import JSON_LINES
from portico.routes.moments import Moment  # noqa: TC001  # FastAPI reads it
from portico.routes.problems import documented
from portico.runs.audit_entry import AuditAction
from portico.runs.audit_store import AuditQuery
from portico.runs.printing import printed

if TYPE_CHECKING:
    from datetime import datetime

    from portico.routes.face import Face

MAX_PAGE = 1000
"""How many entries one page may have."""
EXAMPLE_HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
LARGEST = 2**53
"""What no number of an entry reaches."""


class AuditEntry(BaseModel):
    """Who did what to which agent, when, with what outcome. What is not known, or does not apply, is left out."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "v": 1,
                    "alg": "sha256",
                    "seq": 42,
                    "at": "2026-01-31T09:30:00.000000Z",
                    "action": "agent.restart",
                    "outcome": "ok",
                    "principal": "alice",
                    "address": "192.0.2.7",
                    "face": "http",
                    "agent": "echo",
                    "request_id": "0b8f3a52d1c94e67-1",
                    "duration_us": 812,
                    "prev": EXAMPLE_HASH,
                    "hash": EXAMPLE_HASH,
                }
            ]
        }
    )

    v: int = Field(description="The version of this form.")
    alg: str = Field(description="How `hash` is made: `sha256` over the rest of the entry as canonical JSON (RFC 8785).")
    seq: int = Field(description="Its number, without gaps.")
    at: str = Field(description="RFC 3339, UTC.")
    action: str = Field(description="What was done: `agent.suspend`, `run.cancel`, `access.refused`, `call` …")
    outcome: str = Field(description="`ok`, `accepted`, or the slug of a problem.")
    principal: str | None = Field(None, description="Who did it.")
    address: str | None = Field(None, description="The network address that it came from.")
    face: str | None = Field(None, description="`http`, `websocket`, `mcp` or `cli`; none for the gateway itself.")
    agent: str | None = Field(None, description="To whom it was done.")
    operation: str | None = Field(None, description="What that was asked.")
    run_id: str | None = Field(None, description="The run that it was done to, or that it has become.")
    request_id: str | None = Field(None, description="The request that brought it.")
    trace_id: str | None = Field(None, description="The trace that it belongs to.")
    duration_us: int | None = Field(None, description="Microseconds that it took.")
    details: dict[str, Any] | None = Field(None, description="A few values more, by the action.")
    prev: str = Field(description="The hash of the entry before it.")
    hash: str = Field(description="Its own.")


class AuditPage(BaseModel):
    """Some entries: with `after` the oldest first, else the newest first."""

    entries: list[AuditEntry]
    next: int | None = Field(
        description="Pass it as `after`, where you have passed that, else as `before`, for the next page; null on the last.",
        examples=[None],
    )


def audit_router(face: Face) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["audit"])
    dispatcher = face.dispatcher

    @router.get(
        "/audit",
        response_model=AuditPage,
        summary="Read the audit trail",
        operation_id="list_audit_entries",
        responses=documented(InsufficientScope, RouteNotFound, ContractViolation),
    )
    async def page(  # noqa: PLR0917  # FastAPI gives them by name  # pyright: ignore[reportUnusedFunction]
        request: Request,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="How many, at most.")] = 100,
        after: Annotated[
            int | None, Query(ge=0, lt=LARGEST, description="Only those with a greater number, the oldest first.")
        ] = None,
        before: Annotated[int | None, Query(ge=0, lt=LARGEST, description="Only those with a smaller number.")] = None,
        agent: Annotated[str | None, Query(description="Only what was done to this agent.")] = None,
        principal: Annotated[str | None, Query(description="Only what this principal did.")] = None,
        action: Annotated[str | None, Query(description="Only this action.")] = None,
        since: Annotated[Moment | None, Query(description="Only those of then and later: RFC 3339.")] = None,
        until: Annotated[Moment | None, Query(description="Only earlier ones: RFC 3339.")] = None,
    ) -> Any:
        """Who did what. Needs the scope `admin`; without authentication it is shown on this machine only.

        With `Accept: application/jsonl` each entry is a line, as `portico audit verify --file` takes them.
        """
        with audited(dispatcher.audit, request.scope, AuditAction.AUDIT_READ, agent=agent):
            demand_admin(request, "The audit trail")
            form = preferred(accepted(request.scope) or "", (JSON.decode(), *JSON_LINES))
            query = AuditQuery(
                after=after,
                before=before,
                agent=agent,
                principal=principal,
                action=action,
                since_us=_microseconds(since),
                until_us=_microseconds(until),
                limit=limit + 1,
            )
            await dispatcher.audit.settled()
            found = await dispatcher.book.store.audit(query)
        entries, following = found[:limit], found[limit - 1].seq if len(found) > limit else None
        if form in JSON_LINES:
            return Response(b"".join(map(line, entries)), media_type=form)
        return Response(printed({"entries": list(map(shown, entries)), "next": following}), media_type=JSON.decode())

    return router


def _microseconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp() * MICROSECONDS)
