"""Probes: `/livez`, `/readyz`, `/startupz`, `/healthz`. What they say is derived from the supervision tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from portico.routes.exchange import JSON, PRINCIPAL
from portico.runs.tree_view import readiness

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.routes.face import Face

PATHS = ("/livez", "/readyz", "/startupz", "/healthz")
OPEN: dict[str, Any] = {"security": []}
"""What the OpenAPI document says of a route that needs no credentials."""


class Health(BaseModel):
    """What a probe says."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [{"status": "ok"}]})

    status: Literal["ok", "unavailable"]
    reason: str | None = Field(None, description="Why the tree has ended.")
    draining: bool | None = Field(None, description="Of `?verbose`: whether it is shutting down.")
    store: dict[str, Any] | None = Field(
        None, description="Of `?verbose`: where runs and states are stored, and whether that works."
    )
    processes: dict[str, Any] | None = Field(None, description="Of `?verbose`: each process's part.")


def probes_router(face: Face, *, secured: Callable[[], bool]) -> APIRouter:
    """The routes. `secured`: whether the details of `?verbose` need a principal."""
    router = APIRouter(tags=["probes"])
    runtime = face.dispatcher.runtime
    unavailable = {"model": Health, "description": "Not now.", "content": {JSON.decode(): {"example": {"status": "unavailable"}}}}
    # Orchestrators ask without a key.
    about: dict[str, Any] = {"response_model": Health, "responses": {503: unavailable}, "openapi_extra": OPEN}

    def answer(passes: bool, **more: Any) -> JSONResponse:  # noqa: FBT001  # it is what is answered
        return JSONResponse({"status": "ok" if passes else "unavailable", **more}, 200 if passes else 503)

    @router.head("/livez", include_in_schema=False)
    @router.get("/livez", summary="Is the root supervisor alive?", operation_id="livez", **about)
    async def live() -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        """200 while the root supervisor is alive, else 503: restart the program."""
        return answer(runtime.alive, **({"reason": runtime.report} if runtime.report else {}))

    @router.head("/startupz", include_in_schema=False)
    @router.get("/startupz", summary="Has the tree started?", operation_id="startupz", **about)
    async def startup() -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        """200 once the tree has started."""
        return answer(runtime.started)

    @router.head("/readyz", include_in_schema=False)
    @router.head("/healthz", include_in_schema=False)
    @router.get("/readyz", summary="Can it take calls?", operation_id="readyz", **about)
    @router.get("/healthz", summary="Can it take calls?", operation_id="healthz", **about)
    async def ready(request: Request) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        """200 when every process runs that the whole depends on, the store takes what must be stored, and nothing is draining.

        `?verbose` lists them.
        """
        passes, parts = readiness(runtime)
        store = face.dispatcher.book.store
        passes = passes and not face.dispatcher.draining and store.failure is None
        if "verbose" not in request.query_params or (secured() and request.scope.get(PRINCIPAL) is None):
            return answer(passes)
        kept = {"where": store.where, "durable": store.durable, "ready": store.failure is None, "failure": store.failure}
        return answer(passes, draining=face.dispatcher.draining, store=kept, processes=parts)

    return router
