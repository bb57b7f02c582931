"""`/problems/{slug}`: the page that a problem's `type` leads to. Generated from the catalogue of errors."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from portico.errors import PorticoError, RouteNotFound
from portico.routes.exchange import prefix
from portico.routes.problems import STATUSES, documented

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portico.operations.catalogue import Catalogue


def _family(cls: type[PorticoError]) -> Iterator[type[PorticoError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _family(child)


def _declared(catalogue: Catalogue) -> Iterator[tuple[str, dict[str, Any]]]:
    """The errors that operations declare: `@operation(errors={"out-of-stock": 409})`."""
    for endpoint in (*catalogue, *(endpoint for _, endpoint in catalogue.routes)):
        for slug, status in endpoint.operation.errors.items():
            about = f"Declared by agent {endpoint.agent!r} for its operation {endpoint.operation.name!r}."
            yield slug, {"title": slug.replace("-", " ").capitalize(), "status": status, "description": about}


def problem_pages_router(catalogue: Catalogue) -> APIRouter:
    """The routes. `catalogue`: whose operations' declared errors have a page too."""
    router = APIRouter(prefix="/problems", tags=["problems"])
    pages = dict(_declared(catalogue)) | {
        cls.slug: {"title": cls.title, "status": STATUSES[cls.slug], "description": inspect.getdoc(cls) or cls.title}
        for cls in _family(PorticoError)
        if cls.slug in STATUSES
    }

    @router.get("", summary="Every problem")
    async def every() -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        """The problems that this gateway answers with."""
        return {slug: pages[slug] for slug in sorted(pages)}

    @router.get("/{slug}", summary="A problem", responses=documented(404))
    async def page(slug: str, request: Request) -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        """What a problem means."""
        if slug not in pages:
            raise RouteNotFound(f"/problems/{slug}")
        return {"type": f"{prefix(request.scope)}/problems/{slug}", **pages[slug]}

    return router
