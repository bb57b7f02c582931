"""WorkloadAuth: a token of the platform stands for us: it is exchanged for one of the authorisation server (RFC 7523 §2.1).

The authorisation server is ours to name, not the MCP server's: the platform's token goes to it and nowhere else. The SDK has no
such client; this one is like its own, without registration and without refresh.
"""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
import httpx2
from mcp.client.auth import OAuthFlowError, OAuthTokenError
from mcp.client.auth.utils import (
    build_oauth_authorization_server_metadata_discovery_urls,
    create_oauth_metadata_request,
    handle_auth_metadata_response,
    validate_metadata_issuer,
)
from mcp.shared._httpx_utils import RedirectAwareAuth
from mcp.shared.auth_utils import resource_url_from_server_url

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EARLY: Final = 10.0
"""Seconds before its end that a token is fetched anew."""


class WorkloadAuth(RedirectAwareAuth):
    """See the module.

    Args:
        server_url: the MCP server.
        client_id: as whom.
        issuer: the authorisation server.
        assertion: gives the platform's token, anew for each exchange.
        scope: what is asked for.
    """

    def __init__(
        self, server_url: str, client_id: str, issuer: str, assertion: Callable[[], Awaitable[str]], *, scope: str | None = None
    ) -> None:
        self._server_url = server_url
        self._client_id = client_id
        self._issuer = issuer
        self._assertion = assertion
        self._scope = scope
        self._token: str | None = None
        self._ends_at = 0.0
        self._endpoint: str | None = None
        self._lock = anyio.Lock()

    def __repr__(self) -> str:
        return "WorkloadAuth(…)"

    async def _auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        if self._token is not None and time.monotonic() < self._ends_at:
            request.headers["Authorization"] = f"Bearer {self._token}"
        tried = self._token
        response = yield request
        if response.status_code != HTTPStatus.UNAUTHORIZED:
            return
        async with self._lock:
            if self._token == tried:  # nobody else has fetched one meanwhile
                if self._endpoint is None:
                    for url in build_oauth_authorization_server_metadata_discovery_urls(self._issuer, self._server_url):
                        self._endpoint = await self._endpoint_in((yield create_oauth_metadata_request(url)))
                        if self._endpoint is not None:
                            break
                    else:
                        raise OAuthFlowError(f"nothing is known of the authorisation server {self._issuer}")
                await self._take((yield await self._exchange(self._endpoint or "")))
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request

    async def _endpoint_in(self, response: httpx2.Response) -> str | None:
        await response.aread()
        _, metadata = await handle_auth_metadata_response(response)
        if metadata is None:
            return None
        validate_metadata_issuer(metadata, self._issuer)
        return str(metadata.token_endpoint)

    async def _exchange(self, endpoint: str) -> httpx2.Request:
        form = {
            "grant_type": GRANT,
            "assertion": await self._assertion(),
            "client_id": self._client_id,
            "resource": resource_url_from_server_url(self._server_url),
        }
        if self._scope:
            form["scope"] = self._scope
        return httpx2.Request("POST", endpoint, data=form)

    async def _take(self, response: httpx2.Response) -> None:
        await response.aread()
        if response.status_code != HTTPStatus.OK:
            raise OAuthTokenError(f"the authorisation server refused the platform's token ({response.status_code})")
        said: Any = response.json()
        given = cast("dict[str, Any]", said) if isinstance(said, dict) else {}
        token = given.get("access_token")
        if not isinstance(token, str):
            raise OAuthTokenError("the authorisation server answered without a token")
        self._token = token
        lasts = given.get("expires_in")
        self._ends_at = time.monotonic() + (lasts - EARLY if isinstance(lasts, int | float) else float("inf"))
