"""`/dead-letters`: what failed after its retries, and how to send it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from portico.errors import (
    ContractViolation,
    InsufficientScope,
    NotRedrivable,
    Suspended,
    UnknownAgent,
    UnknownOperation,
    UnknownRun,
)
from portico.routes.admin import is_admin
from portico.routes.audited import audited
from portico.routes.exchange import CALL, JSON, PRINCIPAL, REQUEST_ID, SCOPES, prefix
from portico.routes.problems import documented
from portico.routes.runs import EXAMPLE_ID, EXAMPLE_TIME, MAX_PAGE, RunReference
from portico.runs.audit_entry import AuditAction
from portico.runs.call import Call
from portico.runs.printing import printable, printed
from portico.runs.run_view import dead_letter_view, reference
from portico.runs.store import RunQuery
from portico.traceparent import well_formed

if TYPE_CHECKING:
    from portico.routes.face import Face


class DeadLetter(BaseModel):
    """What failed after its retries."""

    id: str = Field(examples=[EXAMPLE_ID])
    run_id: str | None = Field(description="Its run; null for a message that a plain ask's handler sent on.", examples=[EXAMPLE_ID])
    agent: str = Field(examples=["flaky"])
    operation: str = Field(examples=["double"])
    reason: str = Field(examples=["RuntimeError: crashed on purpose"])
    attempts: int = Field(description="How often its handling had begun.")
    created_at: str = Field(description="RFC 3339, UTC.", examples=[EXAMPLE_TIME])
    payload: Any = Field(description="The request, without its secret fields.", examples=[{"number": 21}])


class DeadLetterPage(BaseModel):
    """Some dead letters, the newest first."""

    dead_letters: list[DeadLetter]
    next: str | None = Field(description="Pass it as `before` for the next page; null on the last.", examples=[None])


def dead_letters_router(face: Face) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/dead-letters", tags=["runs"])
    letters = face.dispatcher.book.dead_letters

    @router.get(
        "",
        response_model=DeadLetterPage,
        summary="List dead letters",
        operation_id="list_dead_letters",
        responses=documented(UnknownRun, ContractViolation),
    )
    async def page(  # pyright: ignore[reportUnusedFunction]
        request: Request,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="How many, at most.")] = 50,
        before: Annotated[str | None, Query(description="Only those older than this one: `next` of the page before.")] = None,
        agent: Annotated[str | None, Query(description="Only those for this agent.")] = None,
    ) -> Any:
        """Your calls that failed after their retries, the newest first; with the scope `admin` everybody's."""
        principal, everyone = request.scope.get(PRINCIPAL), is_admin(request.scope)
        older = await letters.place(before, principal, everyone=everyone) if before is not None else None
        query = RunQuery(principal=principal, everyone=everyone, agent=agent, before=older, dead=True, limit=limit + 1)
        found = await letters.page(query)
        shown = [{**dead_letter_view(one), "payload": printable(one.payload)} for one in found[:limit]]
        body = {"dead_letters": shown, "next": found[limit - 1].id if len(found) > limit else None}
        return Response(printed(body), media_type=JSON.decode())

    @router.post(
        "/{letter_id}/redrive",
        status_code=202,
        response_model=RunReference,
        summary="Send a dead letter again",
        operation_id="redrive_dead_letter",
        responses=documented(
            InsufficientScope, UnknownRun, UnknownAgent, UnknownOperation, NotRedrivable, Suspended, ContractViolation, 429, 503
        ),
    )
    async def redrive(
        letter_id: Annotated[str, Path(description="Its `id`.", examples=[EXAMPLE_ID])], request: Request, response: Response
    ) -> Any:  # pyright: ignore[reportUnusedFunction]
        """Send it again as a new run of whose it is; then it is a dead letter no more. `Location` is where to find the run.

        With the scope `admin` also somebody else's.
        """
        with audited(face.dispatcher.audit, request.scope, AuditAction.REDRIVE, details={"dead_letter": letter_id}) as about:
            letter = await letters.find(letter_id, request.scope.get(PRINCIPAL), everyone=is_admin(request.scope))
            about.agent, about.operation = letter.agent, letter.operation
            if letter.redacted:
                raise NotRedrivable(letter.id)
            call = Call(
                face.dispatcher.endpoint_of(letter),
                letter.payload,
                one_way=letter.one_way,
                timeout=face.run_timeout,
                principal=letter.principal,
                scopes=request.scope.get(SCOPES),
                address=request.client.host if request.client else None,
                request_id=request.scope.get(REQUEST_ID),
                traceparent=well_formed(request.headers.get("traceparent")),
                redrive_of=letter.id,
            )
            request.scope[CALL] = call
            run = await face.dispatcher.redrive(letter, call)
            about.of(run)
        response.headers["location"] = f"{prefix(request.scope)}/runs/{run.run_id}"
        return reference(run)

    return router
