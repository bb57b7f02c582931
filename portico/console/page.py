"""Page: the HTML of `/console`, and the routes that serve it with its files. Under any prefix, under a strict policy.

Above: the app adds the routes. Below: the assets. The page tells nothing about the agents: it asks the public API, with the key of
whoever looks at it, and so it may be open to everybody.
"""

from __future__ import annotations

import html
import posixpath
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from portico.console.assets import Assets

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request

POLICY: Final = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src 'self' data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
)
"""What the page may load and do: nothing inline, nothing from elsewhere."""
HEADERS: Final = {
    "Content-Security-Policy": "; ".join(POLICY),
    "X-Frame-Options": "DENY",  # what `frame-ancestors` says, for those that do not know it
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-cache",
}


def assets_path(console_path: str) -> str:
    """Below which path the files are. They hold nothing of the gateway's own."""
    return console_path.rstrip("/") + "/assets"


def mount_console(app: Starlette, *, title: str, console_path: str = "/console") -> None:
    """Add the page and its files to an application.

    Args:
        app: a Starlette or FastAPI application.
        title: the gateway's name, shown on the page.
        console_path: where the page is.
    """
    assets = Assets()
    files = f"{assets_path(console_path)}/{assets.digest}"
    plain, slashed = (
        page(title, assets, _relative(files, at), _relative("/", at)).encode() for at in (console_path, console_path + "/")
    )
    tag = f'"{blake2b(plain, digest_size=16).hexdigest()}"'

    async def show(request: Request) -> Response:
        headers = {**HEADERS, "ETag": tag}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        raw: bytes = request.scope.get("raw_path", b"")
        return HTMLResponse(slashed if raw.partition(b"?")[0].endswith(b"/") else plain, headers=headers)

    app.router.routes += [
        Route(console_path, show, methods=["GET"], name="console", include_in_schema=False),
        Route(
            assets_path(console_path) + "/{digest}/{name:path}",
            assets.serve,
            methods=["GET"],
            name="console_assets",
            include_in_schema=False,
        ),
    ]


def page(title: str, assets: Assets, files: str, base: str) -> str:
    """The HTML. `files` and `base` (the gateway's root) are relative to it, so that it works wherever the gateway is mounted."""
    preloads = "\n".join(f'<link rel="modulepreload" href="{files}/{name}">' for name in assets.modules if name != "theme_early.js")
    styles = "\n".join(f'<link rel="stylesheet" href="{files}/{name}">' for name in assets.styles)
    name = html.escape(title)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{name} · Console</title>
<link rel="icon" type="image/svg+xml" href="{files}/portico.svg">
<script src="{files}/theme_early.js"></script>
{styles}
{preloads}
<script type="module" src="{files}/console.js"></script>
</head>
<body>
<div id="console" data-base="{base}" data-title="{name}">
<p class="boot">Loading {name} …</p>
</div>
<noscript><p class="boot">This page needs JavaScript. GET /agents tells programs the same.</p></noscript>
</body>
</html>
"""


def _relative(target: str, page_path: str) -> str:
    """The way from the page to another path of the gateway."""
    return html.escape(posixpath.relpath(target, posixpath.dirname(page_path)))
