"""`POST /runs/batch`: start many runs with one request. Each is accepted or refused by itself, as `POST /runs` would."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from portico.errors import ContractViolation, MalformedHeader, PorticoError
from portico.operations.contract import faults_of
from portico.routes.allowances import allowance_headers
from portico.routes.exchange import JSON, prefix, problem_of
from portico.routes.exchange import idempotency_key as key_of
from portico.routes.problems import documented, rendered
from portico.routes.runs import EXAMPLE_ID, OF_A_BODY, NewRun, RunReference, call_of, json_body
from portico.runs.run_view import reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portico.routes.face import Face
    from portico.runs.quota import Allowance

MOST = 100
"""How many runs one request may start."""
EACH = 207
"""Every entry says how it went (RFC 4918 §11.1): some may be refused, all may be."""


class NewRuns(BaseModel):
    """Calls that nobody waits for."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"runs": [{"agent": "echo", "payload": {"text": text}} for text in ("one", "two")]}]},
    )

    runs: list[NewRun] = Field(min_length=1, max_length=MOST, description="Delivered in this order.")


class Started(BaseModel):
    """What became of one of them."""

    run: RunReference | None = Field(
        examples=[{"run_id": EXAMPLE_ID, "status": "queued"}], description="Null where it was refused."
    )
    problem: dict[str, Any] | None = Field(
        examples=[None], description="Why it was refused: as the answer of `POST /runs` would say it."
    )
    location: str | None = Field(examples=[f"/runs/{EXAMPLE_ID}"], description="Where to find the run.")
    replayed: bool = Field(examples=[False], description="Whether it is the run of an earlier request.")


class StartedRuns(BaseModel):
    """What became of each, in the order of the request."""

    runs: list[Started]


_SCHEMA = NewRuns.model_json_schema()
_SCHEMA["properties"]["runs"]["items"] = _SCHEMA.pop("$defs")[
    "NewRun"
]  # in its place: the document has no room for references here
NEW_RUNS: dict[str, Any] = {"requestBody": {"required": True, "content": {JSON.decode(): {"schema": _SCHEMA}}}}
"""The body as OpenAPI has it: FastAPI does not read it, as that of `POST /runs`."""


def run_batch_router(face: Face) -> APIRouter:
    """The route."""
    router = APIRouter(prefix="/runs", tags=["runs"])

    @router.post(
        "/batch",
        status_code=EACH,
        response_model=StartedRuns,
        summary="Start many runs",
        operation_id="start_runs",
        openapi_extra=NEW_RUNS,
        responses={EACH: {"description": "What became of each."}, **documented(*OF_A_BODY, MalformedHeader, ContractViolation)},
    )
    async def start(  # pyright: ignore[reportUnusedFunction]
        request: Request,
        idempotency_key: Annotated[str | None, Header(description="The same key never starts them twice.")] = None,
    ) -> Response:
        """Accept up to 100 calls that nobody waits for: each has a run, which is stored when this is answered, or a problem."""
        key = key_of(idempotency_key.encode("latin-1") if idempotency_key is not None else None)
        bodies = await _new_runs(request, face.body_limit)
        # With a blank, which no key of a client has: the second of a batch is not what somebody calls "key 1".
        keys = [f"{key} {number}" if key is not None else None for number in range(len(bodies))]
        found = await asyncio.gather(*(_started(face, request, *one) for one in zip(bodies, keys, strict=True)))
        left: Sequence[Allowance] = next((allowance for _, allowance in reversed(found) if allowance), ())
        response = Response(rendered({"runs": [started for started, _ in found]}), EACH, media_type=JSON.decode())
        response.raw_headers.extend(allowance_headers(left))
        return response

    return router


async def _new_runs(request: Request, limit: int) -> list[NewRun]:
    try:
        return NewRuns.model_validate(await json_body(request, limit)).runs
    except ValidationError as error:
        raise ContractViolation("POST /runs/batch", faults_of(error)) from None


async def _started(face: Face, request: Request, body: NewRun, key: str | None) -> tuple[dict[str, Any], Sequence[Allowance]]:
    """One of them: as `Started` has it, and what is left of its caller's quotas."""
    call = None
    try:
        call = call_of(body, request, face, key)
        run = await face.dispatcher.submit(call)
    except PorticoError as error:
        problem = problem_of(request.scope, error)
        return {"run": None, "problem": problem, "location": None, "replayed": False}, call.allowance if call is not None else ()
    location = f"{prefix(request.scope)}/runs/{run.run_id}"
    return {"run": reference(run), "problem": None, "location": location, "replayed": call.replayed}, call.allowance
