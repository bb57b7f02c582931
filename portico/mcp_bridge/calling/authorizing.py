"""Authorizing: every request to a remote server gets its token; the SDK's OAuth clients see to it, within walls of ours.

The walls: what goes wrong is a sentence without secrets and an answer that ends one request, not the connection; requests side by
side wait for each other only while a token is fetched; nobody is asked to log in by a gateway that serves. Above: `remote.py`.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import anyio.to_thread
import httpx2
from mcp.client.auth import OAuthClientProvider, OAuthFlowError, OAuthRegistrationError, OAuthTokenError
from mcp.client.auth.extensions.client_credentials import (
    ClientCredentialsOAuthProvider,
    PrivateKeyJWTOAuthProvider,
    SignedJWTParameters,
)
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata
from pydantic import ValidationError

from portico.errors import PorticoError
from portico.mcp_bridge.authorization import AUTHORIZATION_CODE, WORKLOAD
from portico.mcp_bridge.calling.discovery_guard import AUTHORIZING, CLOSED, UNAUTHORIZED
from portico.mcp_bridge.calling.dpop import DPoPAuth
from portico.mcp_bridge.calling.sealed_file import SealedFile
from portico.mcp_bridge.calling.token_store import TokenStore
from portico.mcp_bridge.calling.workload import WorkloadAuth

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from mcp.shared.auth import AuthorizationCodeResult

    from portico.mcp_bridge.authorization import AuthorizationSettings
    from portico.mcp_bridge.calling.login import Login
    from portico.mcp_bridge.config import MCPServerConfig

LONGEST_REASON: Final = 300
"""Characters of why we are not authorised."""
_SDK_LOG: Final = logging.getLogger("mcp.client.auth.oauth2")


class LoginNeededError(Exception):
    """Nobody has logged in, or not for long enough."""

    def __init__(self, server: str) -> None:
        super().__init__(f"nobody is logged in there: portico mcp-login {server}")


class Authorizing(httpx2.Auth):
    """An OAuth client of the SDK behind our walls.

    Args:
        client: the client.
        secrets: what must be in no text.
        ready: raises where no authorisation can be had.
        key: what its tokens are bound to; None where they are not.
    """

    def __init__(
        self, client: httpx2.Auth, secrets: list[str], ready: Callable[[], None], key: EllipticCurvePrivateKey | None = None
    ) -> None:
        self._client = client
        self._inner = client if key is None else DPoPAuth(client, key)
        self._secrets = secrets
        self._ready = ready

    def __repr__(self) -> str:
        return "Authorizing(…)"

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """See `httpx2.Auth`."""
        token = self._standing_token()
        if token is not None:  # without the lock of the client, which it holds until an answer begins
            request.headers["Authorization"] = token
            response = yield request
            if response.status_code not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                return
        flow = self._inner.async_auth_flow(request)
        try:
            self._ready()
            outgoing = await anext(flow)
            while True:
                if outgoing is not request:
                    outgoing.extensions = {**outgoing.extensions, AUTHORIZING: True}
                response = yield outgoing
                if CLOSED in response.extensions:
                    raise OAuthFlowError(response.extensions[CLOSED])
                if outgoing is not request:
                    await response.aread()
                outgoing = await flow.asend(response)
        except StopAsyncIteration:
            return
        except (OAuthFlowError, LoginNeededError, PorticoError, ValidationError, OSError, ValueError) as error:
            request.extensions = {**request.extensions, UNAUTHORIZED: self._sentence(error)}
        finally:
            await flow.aclose()
        yield request

    def _standing_token(self) -> str | None:
        """The header of a token that is good as far as we know."""
        client = self._client
        if self._inner is not client or not isinstance(client, OAuthClientProvider) or not client.context.is_token_valid():
            return None
        tokens = client.context.current_tokens
        return None if tokens is None else f"Bearer {tokens.access_token}"

    def _sentence(self, error: Exception) -> str:
        if isinstance(error, ValidationError):  # it prints what it was given
            return "we are not authorised: the authorisation server answered nonsense"
        text = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(error, OAuthTokenError | OAuthRegistrationError):
            text = text.partition(": ")[0]  # what follows is what the authorisation server said: it may repeat what it was sent
        client = self._client
        tokens = client.context.current_tokens if isinstance(client, OAuthClientProvider) else None
        known = [tokens.access_token, tokens.refresh_token] if tokens is not None else []
        for secret in [*self._secrets, *known]:
            if secret:
                text = text.replace(secret, "…")
        return f"we are not authorised: {text[:LONGEST_REASON]}"


class _Login(OAuthClientProvider):
    """Authorisation code; see `Login` for who asks and who answers."""

    def __init__(self, config: MCPServerConfig, settings: AuthorizationSettings, store: TokenStore, login: Login | None) -> None:
        self._settings, self._login, self._store = settings, login, store
        self._server = config.name
        address = login.address if login is not None else "http://127.0.0.1/callback"
        metadata = OAuthClientMetadata(
            client_name="Portico",
            redirect_uris=cast("Any", [address]),
            grant_types=["authorization_code", "refresh_token"],
            token_endpoint_auth_method="none" if settings.client_secret is None else cast("Any", settings.method),
            scope=settings.scope,
        )
        super().__init__(
            config.url or "",
            metadata,
            store,
            redirect_handler=login.ask if login is not None else self._nobody,
            callback_handler=login.answer if login is not None else self._no_answer,
            client_metadata_url=settings.client_metadata_url,
        )
        store.context = self.context

    async def _initialize(self) -> None:
        await super()._initialize()
        self._store.remind(self.context)
        settings, redirect = self._settings, self.context.client_metadata.redirect_uris
        if settings.client_id is not None:
            self.context.client_info = OAuthClientInformationFull(
                client_id=settings.client_id,
                client_secret=settings.client_secret,
                redirect_uris=redirect,
                token_endpoint_auth_method=self.context.client_metadata.token_endpoint_auth_method,
                issuer=settings.issuer,
            )
        elif self._login is not None and (known := self.context.client_info) and known.redirect_uris != redirect:
            self.context.client_info = None  # registered with another port
        if self._login is not None:
            self.context.clear_tokens()

    async def _nobody(self, address: str) -> None:
        del address
        raise LoginNeededError(self._server)

    async def _no_answer(self) -> AuthorizationCodeResult:
        raise LoginNeededError(self._server)


class _ClientCredentials(ClientCredentialsOAuthProvider):
    async def _initialize(self) -> None:
        await super()._initialize()
        cast("TokenStore", self.context.storage).remind(self.context)


class _SigningClient(PrivateKeyJWTOAuthProvider):
    async def _initialize(self) -> None:
        await super()._initialize()
        cast("TokenStore", self.context.storage).remind(self.context)


def authorizing(config: MCPServerConfig, login: Login | None = None) -> httpx2.Auth | None:
    """What authorises requests to a server; None where its settings have no `auth`. `login`: somebody is there to log in."""
    settings = config.authorization
    if settings is None:
        return None
    if not any(isinstance(one, _Quiet) for one in _SDK_LOG.filters):
        _SDK_LOG.addFilter(_Quiet())
    store = TokenStore(SealedFile(config))

    def ready() -> None:
        """Raises `LoginNeededError` before anything is sent: a gateway that serves registers nowhere, and asks nobody."""
        if settings.type == AUTHORIZATION_CODE and login is None and not store.has_tokens:
            raise LoginNeededError(config.name)

    key = store.bound_key() if settings.dpop else None
    return Authorizing(_inner(config, settings, store, login), settings.secrets(), ready, key)


def _inner(config: MCPServerConfig, settings: AuthorizationSettings, store: TokenStore, login: Login | None) -> httpx2.Auth:
    url, client_id, issuer = config.url or "", settings.client_id or "", settings.issuer
    if settings.type == AUTHORIZATION_CODE:
        return _Login(config, settings, store, login)
    if settings.type == WORKLOAD:
        return WorkloadAuth(url, client_id, issuer or "", _in_file(settings.assertion_file or ""), scope=settings.scope)
    if settings.private_key is not None:
        signed = SignedJWTParameters(
            issuer=client_id, subject=client_id, signing_key=settings.private_key, signing_algorithm=settings.algorithm
        )
        made: OAuthClientProvider = _SigningClient(
            url, store, client_id, signed.create_assertion_provider(), scope=settings.scope, issuer=issuer
        )
    else:
        method = cast("Any", settings.method)
        made = _ClientCredentials(url, store, client_id, settings.client_secret or "", method, settings.scope, issuer)
    store.context = made.context
    return made


def _in_file(path: str) -> Callable[[], Awaitable[str]]:
    async def read() -> str:
        return (await anyio.to_thread.run_sync(Path(path).read_text)).strip()

    return read


class _Quiet(logging.Filter):
    """Leaves out the traceback of a flow that failed: it may quote what the authorisation server said. We tell in our own words."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.exc_info = record.exc_text = None
        return True
