"""`/usage`: what models took: tokens and money, by day, agent, principal, model and run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from portico.errors import ContractViolation, InsufficientScope, StoreUnavailable
from portico.routes.admin import may_admin
from portico.routes.exchange import JSON, PRINCIPAL
from portico.routes.problems import documented
from portico.runs.printing import printed
from portico.runs.run_view import usage_report
from portico.runs.usage import UsageKey, UsageQuery

if TYPE_CHECKING:
    from portico.routes.face import Face

MOST_ROWS = 10_000
"""How many rows one answer may have."""
OPERATION = "GET /usage"
DAY = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"
Day = Annotated[str, Field(pattern=DAY)]
NUMBER = "null where it is not known of a single call"


class UsageRequest(BaseModel):
    """What of it is asked for: the query's parameters."""

    by: str = Field("", description="What to sum up by: day, run, agent, principal, provider, model, with commas between.")
    since: Day | None = Field(None, description="The first day, UTC: `YYYY-MM-DD`.")
    until: Day | None = Field(None, description="The last day, UTC: `YYYY-MM-DD`.")
    agent: str | None = Field(None, description="Only calls of this agent.")
    principal: str | None = Field(None, description="Only calls on this one's behalf; somebody else's needs the scope `admin`.")
    provider: str | None = Field(None, description="Only calls of this provider.")
    model: str | None = Field(None, description="Only calls of this model.")
    run: str | None = Field(None, description="Only calls in this run.")
    limit: int = Field(1000, ge=1, le=MOST_ROWS, description="How many rows, at most.")


class UsageSums(BaseModel):
    """Sums over calls of models."""

    calls: int = Field(description="How often a model was called.", examples=[3])
    failed_calls: int = Field(description="Those among them that gave no answer.", examples=[0])
    tokens_in: int | None = Field(description=f"Tokens read; {NUMBER}.", examples=[4200])
    tokens_out: int | None = Field(description=f"Tokens written; {NUMBER}.", examples=[610])
    tokens_cached: int | None = Field(description="Those among the tokens read that came from a cache.", examples=[0])
    tokens_cache_written: int | None = Field(description="Those among the tokens read that were put into a cache.", examples=[0])
    tokens_reasoning: int | None = Field(description="Those among the tokens written that nobody is shown.", examples=[0])
    cost_usd: float | None = Field(description=f"US dollars, of the calls that have a price; {NUMBER}.", examples=[0.000996])
    unpriced_calls: int = Field(description="Calls that have no price: their money is missing in `cost_usd`.", examples=[0])
    unknown_calls: int = Field(description="Calls whose tokens are not known: they are missing in the sums.", examples=[0])
    seconds: float = Field(description="How long the calls took, one after another.", examples=[7.5])


class UsageRow(UsageSums):
    """Sums over the calls that have something in common: the members that `by` names."""

    model_config = ConfigDict(json_schema_extra={"required": list(UsageSums.model_fields)})

    day: str | None = Field(None, description="The day, UTC.", examples=["2026-01-31"])
    run: str | None = Field(None, description="The run.")
    agent: str | None = Field(None, description="The agent that called.", examples=["helper"])
    principal: str | None = Field(None, description="On whose behalf; null for callers without a name.")
    provider: str | None = Field(None, description="Who was called.")
    model: str | None = Field(None, description="The model, as its provider names it.", examples=["gpt-4o-mini"])


class UsageReport(BaseModel):
    """What models took."""

    rows: list[UsageRow] = Field(description="By day in the order of days, else those that cost most first.")
    total: UsageSums = Field(description="The sum of all that was asked for, also of rows that are left out.")
    truncated: bool = Field(description="Whether rows are left out: there are more than `limit`.")


class RunUsage(UsageSums):
    """What models took in a run, in all attempts and nested asks."""

    models: list[str] = Field(description="Which they were.", examples=[["gpt-4o-mini"]])


def usage_router(face: Face) -> APIRouter:
    """The route."""
    router = APIRouter(prefix="/usage", tags=["usage"])
    store = face.dispatcher.book.store

    @router.get(
        "",
        response_model=UsageReport,
        summary="Read what models took",
        operation_id="read_usage",
        responses=documented(ContractViolation, InsufficientScope, StoreUnavailable),
    )
    async def read(request: Request, asked: Annotated[UsageRequest, Query()]) -> Any:  # pyright: ignore[reportUnusedFunction]
        """Yours; with the scope `admin`, or on the gateway's machine where it knows no callers, everybody's.

        Calls by run are known as long as runs are kept, the others for 400 days unless the store's `retention` says otherwise.
        """
        filters = {**_whose(request, asked.principal), **asked.model_dump(exclude={"by", "principal", "limit"})}
        by = _keys(asked.by)
        groups = await store.usage(UsageQuery(by=by, limit=asked.limit + 1, **filters)) if by else []
        (everything,) = await store.usage(UsageQuery(**filters))
        return Response(printed(usage_report(groups, everything, asked.limit)), media_type=JSON.decode())

    return router


def _whose(request: Request, principal: str | None) -> dict[str, Any]:
    """Whose usage a caller may see, of what it asks for. Raises `InsufficientScope` where that is somebody else's."""
    own = request.scope.get(PRINCIPAL)
    if may_admin(request):
        return {"everyone": True} if principal is None else {"principal": principal}
    if principal is not None and principal != own:
        raise InsufficientScope("the usage of others", ["admin"])
    return {"principal": own}


def _keys(by: str) -> list[UsageKey]:
    """Raises `ContractViolation` for a word that is none."""
    words = list(dict.fromkeys(word.strip() for word in by.split(",") if word.strip()))
    known = [key.value for key in UsageKey]
    for word in words:
        if word not in known:
            message = f"{word!r} is none of: {', '.join(known)}"
            raise ContractViolation(OPERATION, [{"path": "/by", "message": message, "type": "enum", "in": "query"}])
    return [UsageKey(word) for word in words]
