"""`/metrics`: the figures of this gateway for Prometheus, and for whoever reads its formats."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Request, Response

if TYPE_CHECKING:
    from portico.telemetry.metrics import Metrics

PATH: Final = "/metrics"
MANY: Final = 1000
"""Series that are written on the event loop at most; more take too long, and are left to a thread."""


def metrics_router(metrics: Metrics) -> APIRouter:
    """The route. Who calls needs a credential where the gateway has one: a scraper can send a bearer token."""
    router = APIRouter(tags=["metrics"])

    @router.head(PATH, include_in_schema=False)
    @router.get(
        PATH,
        summary="Figures for Prometheus",
        operation_id="read_metrics",
        response_class=Response,
        responses={
            200: {
                "content": {
                    "text/plain": {"schema": {"type": "string"}, "example": "portico_calls_in_flight 0.0\n"},
                    "application/openmetrics-text": {
                        "schema": {"type": "string"},
                        "example": "portico_calls_in_flight 0.0\n# EOF\n",
                    },
                }
            }
        },
    )
    async def figures(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Calls, mailboxes, restarts, streams and the process, as Prometheus text, or OpenMetrics where `Accept` names it."""
        readings, modern = metrics.read(), _wants_openmetrics(request.headers.get("accept", ""))
        if sum(len(reading.points) for reading in readings) > MANY:
            text, media_type = await asyncio.to_thread(metrics.text, readings, as_openmetrics=modern)
        else:
            text, media_type = metrics.text(readings, as_openmetrics=modern)
        return Response(text, headers={"content-type": media_type, "cache-control": "no-store"})

    return router


def _wants_openmetrics(accept: str) -> bool:
    """Whether the client names that format. It is not weighed against the other: scrapers that name it prefer it."""
    kinds = (part.partition(";")[0].strip().lower() for part in accept.split(","))
    return "application/openmetrics-text" in kinds
