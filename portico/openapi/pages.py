"""Pages: Swagger UI and ReDoc, from files of this package alone. They work without internet, under any prefix, under a strict CSP.

Above: the app adds these routes. The files in `static/` are as their makers ship them (its README has versions and licences), but
for `docs.js` and `docs.css`. A page tells nothing about the agents: where the document that it loads needs the key, it asks for it.
"""

from __future__ import annotations

import html
import posixpath
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request

STATIC: Final = Path(__file__).parent / "static"
STATIC_PATH: Final = "/docs/assets"
"""Below which path the files are. They hold nothing of the gateway's own, and so may be open to everybody."""
VIEWERS: Final = {"swagger": "swagger-ui-bundle.js", "redoc": "redoc.standalone.js"}
"""The script of each viewer."""
POLICY: Final = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self' 'unsafe-inline'",  # both viewers style their elements from their scripts
    "img-src 'self' data:",
    "font-src 'self' data:",
    "connect-src 'self'",
    "worker-src blob:",  # ReDoc searches in a worker
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'self'",
)
"""What a page may load and do: nothing from elsewhere."""
HEADERS: Final = {
    "Content-Security-Policy": "; ".join(POLICY),
    "X-Frame-Options": "SAMEORIGIN",  # what `frame-ancestors` says, for those that do not know it
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def mount_pages(
    app: Starlette, *, title: str, docs_path: str = "/docs", redoc_path: str = "/redoc", openapi_path: str = "/openapi.json"
) -> None:
    """Add both pages and their files to an application.

    Args:
        app: a Starlette or FastAPI application.
        title: the API's, shown in the browser's tab.
        docs_path: where Swagger UI is.
        redoc_path: where ReDoc is.
        openapi_path: where the document is.
    """

    def route(path: str, viewer: str) -> Route:
        body, slashed = (page(title, viewer, _relative(STATIC_PATH, at), _relative(openapi_path, at)) for at in (path, path + "/"))

        async def show(request: Request) -> HTMLResponse:
            raw: bytes = request.scope.get("raw_path", b"")
            return HTMLResponse(slashed if raw.endswith(b"/") else body, headers=HEADERS)

        return Route(path, show, methods=["GET"], name=viewer, include_in_schema=False)

    files = Mount(STATIC_PATH, StaticFiles(directory=STATIC), name="docs_assets")
    app.router.routes += [files, route(docs_path, "swagger"), route(redoc_path, "redoc")]


def page(title: str, viewer: str, assets: str, openapi: str) -> str:
    """The HTML of a page. `assets` and `openapi` are relative to it, so that it works wherever the gateway is mounted."""
    style = f'<link rel="stylesheet" href="{assets}/swagger-ui.css">' if viewer == "swagger" else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<link rel="icon" type="image/png" href="{assets}/favicon-32x32.png">
<link rel="stylesheet" href="{assets}/docs.css">
{style}
</head>
<body>
<form id="key-form" hidden>
<label for="key">This gateway needs its key.</label>
<input id="key" name="key" type="password" autocomplete="off" required>
<button>Continue</button>
<output></output>
</form>
<main id="docs" data-viewer="{viewer}" data-openapi="{html.escape(openapi)}"></main>
<script src="{assets}/{VIEWERS[viewer]}"></script>
<script src="{assets}/docs.js"></script>
</body>
</html>
"""


def _relative(target: str, page_path: str) -> str:
    """The way from a page to another path of the gateway."""
    return html.escape(posixpath.relpath(target, posixpath.dirname(page_path)))
