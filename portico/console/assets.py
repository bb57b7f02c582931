"""Assets: the files of the page, read once, behind an address that changes when any of them does.

Above: the page, which names them. A browser may keep each for good, and never mixes the modules of two versions: the digest of
all of them is part of the path, and modules name each other relative to themselves. It knows nothing of the gateway.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.responses import PlainTextResponse, Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

STATIC: Final = Path(__file__).parent / "static"
"""Where the files are."""
TYPES: Final = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What is served, by the end of its name. Licences and the README lie beside and are not."""
FOREVER: Final = "public, max-age=31536000, immutable"
ALONE: Final = "default-src 'none'; frame-ancestors 'none'"
"""What a file may do that is shown as a page of its own: nothing."""


class Assets:
    """The files in memory.

    Args:
        folder: where they are.
    """

    def __init__(self, folder: Path = STATIC) -> None:
        found = sorted(path for path in folder.rglob("*") if path.suffix in TYPES)
        self._files: Mapping[str, bytes] = {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
        hashed = blake2b(digest_size=8)
        for name, body in self._files.items():
            hashed.update(b"%s %d " % (name.encode(), len(body)))
            hashed.update(body)
        self.digest: Final = hashed.hexdigest()
        """Of all names and contents."""

    @property
    def modules(self) -> list[str]:
        """The names of all scripts."""
        return [name for name in self._files if name.endswith(".js")]

    @property
    def styles(self) -> list[str]:
        """The names of all style sheets; the page's own come after those of others."""
        return sorted(
            (name for name in self._files if name.endswith(".css")), key=lambda name: (not name.startswith("vendor/"), name)
        )

    async def serve(self, request: Request) -> Response:
        """`GET` or `HEAD` of `{digest}/{name}`."""
        digest: str = request.path_params["digest"]
        body = self._files.get(request.path_params["name"]) if digest == self.digest else None
        if body is None:
            return PlainTextResponse("There is no such file; reload the page.", 404, {"cache-control": "no-store"})
        headers = {
            "etag": f'"{digest}"',
            "cache-control": FOREVER,
            "content-security-policy": ALONE,
            "cross-origin-resource-policy": "same-origin",
        }
        if f'"{digest}"' in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        media_type = TYPES[Path(request.path_params["name"]).suffix]
        return Response(body, headers=headers, media_type=media_type)
