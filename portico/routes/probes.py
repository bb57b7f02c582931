"""Probes: `/livez`, `/readyz`, `/startupz`, `/healthz`. What they say is derived from the supervision tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from portico.routes.exchange import PRINCIPAL
from portico.routes.tree_view import readiness

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.routes.face import Face

PATHS = ("/livez", "/readyz", "/startupz", "/healthz")
OPEN: dict[str, Any] = {"security": []}
"""What the OpenAPI document says of a route that needs no credentials."""


def probes_router(face: Face, *, secured: Callable[[], bool]) -> APIRouter:
    """The routes. `secured`: whether the details of `?verbose` need a principal."""
    router = APIRouter(tags=["probes"])
    runtime = face.dispatcher.runtime

    def answer(passes: bool, **more: Any) -> JSONResponse:  # noqa: FBT001  # it is what is answered
        return JSONResponse({"status": "ok" if passes else "unavailable", **more}, 200 if passes else 503)

    @router.head("/livez", include_in_schema=False)
    @router.get("/livez", summary="Is the root supervisor alive?", openapi_extra=OPEN)
    async def live() -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        """200 while the root supervisor is alive, else 503: restart the program."""
        return answer(runtime.alive, **({"reason": runtime.report} if runtime.report else {}))

    @router.head("/startupz", include_in_schema=False)
    @router.get("/startupz", summary="Has the tree started?", openapi_extra=OPEN)
    async def startup() -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        """200 once the tree has started."""
        return answer(runtime.started)

    @router.head("/readyz", include_in_schema=False)
    @router.head("/healthz", include_in_schema=False)
    @router.get("/readyz", summary="Can it take calls?", openapi_extra=OPEN)
    @router.get("/healthz", summary="Can it take calls?", openapi_extra=OPEN)
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
