"""Authentication: lets a request in, and leaves who sent it in the scope, for every route and for /mcp alike.

Open to everybody are only the probes, the files of the documentation pages, which tell nothing about the agents, and what says
where to get a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portico.auth.principal import Principal, credential_of
from portico.auth.shared_key import SHARED
from portico.errors import AuthUnavailable, Unauthenticated
from portico.routes.address import without_slash
from portico.routes.audited import audit_refusal
from portico.routes.exchange import PEER, PRINCIPAL, RENEW, SCOPES, respond_with_problem, route_path

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from starlette.types import ASGIApp, Receive, Scope, Send

    from portico.auth.principal import Authenticator
    from portico.routes.protected_resource import ProtectedResource
    from portico.runs.auditor import Auditor

SUBPROTOCOL: Final = "portico.bearer."
"""What begins a WebSocket subprotocol that carries a credential: a browser can set no header, but offer subprotocols."""
LASTING: Final = "/events"
"""The end of the paths whose responses stay open, and may outlive their caller's key."""
_NO_SCOPES: Final[frozenset[str]] = frozenset()


class Authentication:
    """ASGI middleware.

    Args:
        app: what it guards.
        authenticator: who knows the callers.
        open_paths: paths that need no principal, with and without a slash at their end.
        open_prefixes: paths that begin with one of them need none either.
        resource: says where a client finds out how to get a token (RFC 9728), and which; None where no tokens are taken.
        peer_scopes: what a caller may do who sends no credential, but has shown a TLS certificate (`PEER`).
        auditor: who is told of those that are refused; None where nobody is.
    """

    def __init__(
        self,
        app: ASGIApp,
        authenticator: Authenticator,
        open_paths: Collection[str],
        open_prefixes: tuple[str, ...],
        resource: ProtectedResource | None = None,
        peer_scopes: Collection[str] = (),
        *,
        auditor: Auditor | None = None,
    ) -> None:
        self._app = app
        self._authenticator = authenticator
        self._open_paths = frozenset(open_paths)
        self._open_prefixes = open_prefixes
        self._resource = resource
        self._peer_scopes = frozenset(peer_scopes)
        self._auditor = auditor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or refuse it."""
        kind = scope["type"]
        if kind == "http" or kind == "websocket":  # noqa: PLR1714  # each request passes here, and this is the quickest way to ask
            credential = _credential(scope)
            who = self._authenticator.known(credential) if credential is not None else None
            if who is None:
                try:
                    who = await self._unknown(scope, credential)
                except (Unauthenticated, AuthUnavailable) as error:
                    if self._auditor is not None:
                        audit_refusal(self._auditor, scope, error)
                    await _refuse(scope, receive, send, error)
                    return
            # Nobody, on an open path, has no scopes: None would be a gateway that knows no callers, where everybody may everything.
            scope[PRINCIPAL], scope[SCOPES] = (who.name, who.scopes) if who is not None else (None, _NO_SCOPES)
            if credential is not None and (kind == "websocket" or scope["path"].endswith(LASTING)):
                scope[RENEW] = self._renewing(credential)
        await self._app(scope, receive, send)

    def _renewing(self, credential: bytes) -> Callable[[], Awaitable[Principal]]:
        """Asks anew: a connection may outlive its key or its token. Raises `Unauthenticated`, `AuthUnavailable`."""

        async def renew() -> Principal:  # a closure, for no print of a scope shows what is in it
            return self._authenticator.known(credential) or await self._authenticator.verified(credential)

        return renew

    async def _unknown(self, scope: Scope, credential: bytes | None) -> Principal | None:
        """Who sends a credential that must be verified first; None for anybody on an open path."""
        is_open = self._is_open(route_path(scope))
        if credential is None:
            peer: str | None = scope.get(PEER)
            if peer is not None and peer != SHARED.name:
                return Principal(peer, self._peer_scopes)
            if is_open:
                return None
            raise self._told(Unauthenticated(), scope)
        try:
            return await self._authenticator.verified(credential)
        except Unauthenticated as error:
            self._told(error, scope)
            if not is_open:
                raise
        except AuthUnavailable:
            if not is_open:
                raise
        return None

    def _told(self, error: Unauthenticated, scope: Scope) -> Unauthenticated:
        """The error, with where to get a token and which."""
        if self._resource is not None:
            error.metadata, error.scopes = self._resource.url(scope), self._resource.scopes(scope)
        return error

    def _is_open(self, path: str) -> bool:
        return without_slash(path) in self._open_paths or path.startswith(self._open_prefixes)


def _credential(scope: Scope) -> bytes | None:
    """The credential of a request. Of several headers of one name the first counts."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    for name, value in headers:
        if name == b"authorization":
            if value[:7] == b"Bearer ":  # as nearly all write it
                return value[7:].strip()
            authorization = value
            break
    else:
        authorization = None
    api_key = next((value for name, value in headers if name == b"x-api-key"), None)
    found = credential_of(authorization, api_key)
    return _offered(scope) if found is None and scope["type"] == "websocket" else found


def _offered(scope: Scope) -> bytes | None:
    """The credential among the subprotocols that a WebSocket client offers. It is taken out, so that no answer has it."""
    offered: list[str] = scope.get("subprotocols", [])
    found = next((one for one in offered if one.startswith(SUBPROTOCOL)), None)
    if found is None:
        return None
    scope["subprotocols"] = [one for one in offered if not one.startswith(SUBPROTOCOL)]
    return found[len(SUBPROTOCOL) :].encode("latin-1", "replace")


async def _refuse(scope: Scope, receive: Receive, send: Send, error: Unauthenticated | AuthUnavailable) -> None:
    """Answer with the problem; a WebSocket before it is accepted."""
    if scope["type"] == "websocket":
        await receive()  # the handshake
    await respond_with_problem(scope, send, error)
