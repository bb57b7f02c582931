"""Authentication: lets a request in, and leaves who sent it in the scope, for every route and for /mcp alike.

Open to everybody are only the probes and the files of the documentation pages, which tell nothing about the agents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portico.errors import Unauthenticated
from portico.routes.exchange import PRINCIPAL, header, respond_with_problem, route_path

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.types import ASGIApp, Receive, Scope, Send


class Authentication:
    """ASGI middleware.

    Args:
        app: what it guards.
        principal: from an Authorization header to who sends it; None where it is missing or wrong.
        open_paths: paths that need no principal.
        open_prefix: paths below it need none either.
    """

    def __init__(
        self, app: ASGIApp, principal: Callable[[str | None], str | None], open_paths: Collection[str], open_prefix: str
    ) -> None:
        self._app = app
        self._principal = principal
        self._open_paths = frozenset(open_paths)
        self._open_prefix = open_prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or refuse it."""
        if scope["type"] == "http":
            who = self._principal(header(scope, b"authorization"))
            if who is None and not self._is_open(route_path(scope)):
                await respond_with_problem(scope, send, Unauthenticated())
                return
            scope[PRINCIPAL] = who
        await self._app(scope, receive, send)

    def _is_open(self, path: str) -> bool:
        return path in self._open_paths or path.startswith(self._open_prefix)
