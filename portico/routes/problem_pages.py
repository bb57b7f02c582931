"""`/problems/{slug}`: the page that a problem's `type` leads to. Generated from the catalogue of errors."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from portico.errors import MailboxFull, PorticoError, RouteNotFound
from portico.routes.exchange import prefix
from portico.routes.problems import STATUSES, documented

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portico.operations.catalogue import Catalogue


_EXAMPLE = {
    "title": MailboxFull.title,
    "status": STATUSES[MailboxFull.slug],
    "description": "The agent has as many messages waiting as its mailbox holds.",
}


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


class ProblemKind(BaseModel):
    """What all problems of one type have in common."""

    title: str
    status: int = Field(description="The HTTP status.")
    description: str


class ProblemPage(ProblemKind):
    """A problem's page."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "/problems/mailbox-full", **_EXAMPLE}]})

    type: str = Field(description="The `type` of problems that lead here.")


EVERY: dict[str, Any] = {"content": {"application/json": {"example": {"mailbox-full": _EXAMPLE}}}}
"""The answer of `GET /problems`."""


def problem_pages_router(catalogue: Catalogue) -> APIRouter:
    """The routes. `catalogue`: whose operations' declared errors have a page too."""
    router = APIRouter(prefix="/problems", tags=["problems"])
    pages = dict(_declared(catalogue)) | {
        cls.slug: {"title": cls.title, "status": STATUSES[cls.slug], "description": inspect.getdoc(cls) or cls.title}
        for cls in _family(PorticoError)
        if cls.slug in STATUSES
    }

    @router.get(
        "", response_model=dict[str, ProblemKind], summary="Every problem", operation_id="list_problems", responses={200: EVERY}
    )
    async def every() -> Any:  # pyright: ignore[reportUnusedFunction]
        """The problems that this gateway answers with."""
        return {slug: pages[slug] for slug in sorted(pages)}

    @router.get(
        "/{slug}",
        response_model=ProblemPage,
        summary="A problem",
        operation_id="read_problem",
        responses=documented(RouteNotFound),
    )
    async def page(
        slug: Annotated[str, Path(description="The last segment of its `type`.", examples=[MailboxFull.slug])], request: Request
    ) -> Any:  # pyright: ignore[reportUnusedFunction]
        """What a problem means."""
        if slug not in pages:
            raise RouteNotFound(f"/problems/{slug}")
        return {"type": f"{prefix(request.scope)}/problems/{slug}", **pages[slug]}

    return router
