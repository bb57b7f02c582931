"""DiscoveryGuard: where an OAuth discovery may lead. A server names its authorisation server, and so makes us send requests.

To the server itself and to what the settings name we go anyway. Anywhere else only by https, and to no address of this machine or
of a network behind it (SSRF, MCP security best practices); the connection goes to the very address that was judged. Above:
the transport of `remote.py`, with every request of an authorisation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import httpx2

from portico.loopback import is_loopback
from portico.webhooks.guard import ClosedError, Guard

if TYPE_CHECKING:
    from portico.mcp_bridge.authorization import AuthorizationSettings
    from portico.mcp_bridge.config import MCPServerConfig

CLOSED: Final = "portico.closed"
"""In the extensions of a response: the request was not sent, for this reason."""
AUTHORIZING: Final = "portico.authorizing"
"""In the extensions of a request: it belongs to an authorisation."""
LONGEST_ANSWER: Final = 256 * 1024
"""Bytes of an answer of an authorisation server."""
UNAUTHORIZED: Final = "portico.unauthorized"
"""In the extensions of a request: it is not to be sent, for this reason."""


class DiscoveryGuard:
    """Judges the requests of one server's authorisation.

    Args:
        url: where the server is.
        settings: what is trusted besides.
    """

    def __init__(self, url: str, settings: AuthorizationSettings) -> None:
        self._server = httpx2.URL(url)
        named = [self._server, *([httpx2.URL(settings.issuer)] if settings.issuer else [])]
        self._named = {_origin(one) for one in named}
        self._guard = Guard(settings.trusted_hosts)

    async def passed(self, request: httpx2.Request) -> httpx2.Request | httpx2.Response:
        """The request as it may be sent, or the answer that stands for its refusal."""
        url = request.url
        if _origin(url) in self._named or (is_loopback(url.host) and is_loopback(self._server.host)):
            return request
        if url.scheme != "https":
            return _closed(request, f"its authorisation leads to {url.scheme}://{url.host}, which is not https")
        try:
            target = await self._guard.target(str(url))
        except ClosedError:
            return _closed(
                request, f"its authorisation leads to {url.host!r}, an address of this machine or of a network behind it"
            )
        except OSError:
            return _closed(request, f"its authorisation leads to {url.host!r}, which cannot be found")
        # Certificate and Host stay those of the name; and so does the request itself, which may be sent again, with another proof.
        return httpx2.Request(
            request.method,
            url.copy_with(host=target.addresses[0]),
            headers=request.headers,
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": target.host},
        )


class GuardedTransport(httpx2.AsyncHTTPTransport):
    """Sends what the guard lets pass, and nothing that is not authorised. `guard`: None where there is no authorisation."""

    def __init__(self, guard: DiscoveryGuard | None) -> None:
        super().__init__()
        self._guard = guard

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request. Raises `httpx2.ConnectError` for one that is not authorised."""
        if (why := request.extensions.get(UNAUTHORIZED)) is not None:
            raise httpx2.ConnectError(why)
        if self._guard is not None:
            passed = await self._guard.passed(request)
            if isinstance(passed, httpx2.Response):
                return passed
            request = passed
        if AUTHORIZING not in request.extensions:
            return await super().handle_async_request(request)
        host = request.headers["host"]
        try:
            return await _whole(request, await super().handle_async_request(request))
        except httpx2.TransportError as error:
            return _closed(request, f"its authorisation server {host} cannot be reached ({error or type(error).__name__})")


def guard_of(config: MCPServerConfig) -> DiscoveryGuard | None:
    """The guard of a server's authorisation; None where it has none."""
    settings = config.authorization
    return None if settings is None else DiscoveryGuard(config.url or "", settings)


async def _whole(request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
    """An answer of an authorisation server, read to its end; one that has none in sight is refused."""
    pieces: list[bytes] = []
    async for piece in cast("httpx2.AsyncByteStream", response.stream):
        pieces.append(piece)
        if sum(map(len, pieces)) > LONGEST_ANSWER:
            await response.aclose()
            return _closed(request, f"its authorisation server answers with more than {LONGEST_ANSWER} bytes")
    await response.aclose()
    headers = [pair for pair in response.headers.multi_items() if pair[0] not in ("content-length", "transfer-encoding")]
    return httpx2.Response(response.status_code, headers=headers, content=b"".join(pieces), request=request)


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _closed(request: httpx2.Request, why: str) -> httpx2.Response:
    return httpx2.Response(403, request=request, extensions={CLOSED: why})
