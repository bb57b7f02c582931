"""`/problems/{slug}`: the page that a problem's `type` leads to. Generated from the catalogue of errors."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from portico.errors import PorticoError, RouteNotFound
from portico.routes.problems import STATUSES

if TYPE_CHECKING:
    from collections.abc import Iterator


def _family(cls: type[PorticoError]) -> Iterator[type[PorticoError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _family(child)


def problem_pages_router() -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/problems", tags=["problems"])
    pages = {
        cls.slug: {"title": cls.title, "status": STATUSES[cls.slug], "description": inspect.getdoc(cls) or cls.title}
        for cls in _family(PorticoError)
        if cls.slug in STATUSES
    }

    @router.get("", summary="Every problem")
    async def catalogue() -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        """The problems that this gateway answers with."""
        return {slug: pages[slug] for slug in sorted(pages)}

    @router.get("/{slug}", summary="A problem")
    async def page(slug: str) -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        """What a problem means. A slug that is not in the catalogue is one that an agent declares."""
        if slug not in pages:
            raise RouteNotFound(f"/problems/{slug}")
        return {"type": f"/problems/{slug}", **pages[slug]}

    return router
