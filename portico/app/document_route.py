"""`/openapi.json`: the OpenAPI document of one gateway, made when it is first asked for, and the pages that show it.

Below: `openapi`, which makes the document and the pages and serves nothing itself.
"""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from pydantic_core import to_json
from starlette.responses import Response

from portico.app.middlewares import guards_hosts
from portico.openapi.document import build_document
from portico.openapi.pages import mount_pages
from portico.routes.problems import STATUSES
from portico.version import __version__

if TYPE_CHECKING:
    from portico.app.application import Gateway

DOCUMENT: Any = {"content": {"application/json": {"example": {"openapi": "3.1.0", "info": {}, "paths": {}}}}}
"""The answer of `GET /openapi.json`."""


def add_document(app: FastAPI, gateway: Gateway) -> None:
    """`/openapi.json` and the pages that show it."""
    settings = gateway.settings
    made: list[dict[str, Any]] = []

    def openapi() -> dict[str, Any]:
        if not made:
            base = FastAPI.openapi(app)
            made.append(
                build_document(
                    gateway.dispatcher.catalogue,
                    title=settings.title,
                    version=__version__,
                    base=base,
                    statuses=STATUSES,
                    secured=settings.authenticates,
                    guarded=guards_hosts(settings),
                )
            )
        return made[0]

    app.openapi = openapi

    printed: list[tuple[bytes, str]] = []

    @app.get(
        "/openapi.json",
        summary="The OpenAPI document",
        operation_id="read_openapi",
        tags=["documentation"],
        responses={200: DOCUMENT},
    )
    async def document(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """This document: every operation of this gateway, with its schemas, examples and problems."""
        if not printed:
            body = await asyncio.to_thread(lambda: to_json(openapi()))  # a second's work where there are many contracts
            printed.append((body, f'"{blake2b(body, digest_size=16).hexdigest()}"'))
        return _conditional(request, *printed[0])

    if settings.docs_enabled:
        mount_pages(app, title=settings.title, docs_path=settings.docs_path)


def _conditional(request: Request, body: bytes, tag: str) -> Response:
    """A JSON document that clients may keep as long as they ask whether it is still the same (RFC 9110 §13.1.2)."""
    headers = {"etag": tag, "cache-control": "no-cache"}
    known = [one.strip().removeprefix("W/") for one in ",".join(request.headers.getlist("if-none-match")).split(",")]
    if tag in known or "*" in known:
        return Response(status_code=304, headers={**headers, "vary": "Accept-Encoding"})
    return Response(body, headers=headers, media_type="application/json")
