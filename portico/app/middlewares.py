"""Middlewares: what a request passes before the agent table, as one list, the outermost first.

Around it stand what the factory adds last: the access log, and the server spans where there is telemetry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from starlette.middleware import Middleware

from portico.app.door import imported
from portico.console.page import assets_path
from portico.openapi.pages import STATIC_PATH
from portico.routes.authentication import Authentication
from portico.routes.cors import Cors
from portico.routes.host_guard import LOOPBACK, HostGuard
from portico.routes.probes import PATHS as PROBES
from portico.routes.protected_resource import PATH as PROTECTED_RESOURCE
from portico.routes.request_id import RequestId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portico.app.settings import GatewayConfig
    from portico.auth.principal import Authenticator
    from portico.routes.protected_resource import ProtectedResource
    from portico.runs.auditor import Auditor

HSTS_AGE = 365 * 86_400
"""Seconds for which browsers come by TLS alone, once they have (RFC 6797)."""


def middlewares_of(
    settings: GatewayConfig, authenticator: Authenticator | None, resource: ProtectedResource | None, auditor: Auditor
) -> list[Middleware]:
    """What a request passes before the agent table, the outermost first."""
    stack: list[Middleware] = []
    if settings.cors_origins:
        credentials = settings.client_cert_mode != "none"
        stack.append(Middleware(cast("Any", Cors), settings.cors_origins, credentials=credentials))
    stack.append(Middleware(cast("Any", RequestId), _always(settings)))
    if guards_hosts(settings):
        stack.append(Middleware(cast("Any", HostGuard), _allowed_hosts(settings), settings.cors_origins))
    if authenticator is not None:
        open_paths = (*PROBES, PROTECTED_RESOURCE, *_pages(settings))
        open_prefixes = (STATIC_PATH + "/", PROTECTED_RESOURCE + "/", *_page_files(settings))
        guard = (authenticator, open_paths, open_prefixes, resource, settings.client_cert_scopes)
        stack.append(Middleware(cast("Any", Authentication), *guard, auditor=auditor))
    stack += [Middleware(imported(middleware, "middleware")) for middleware in settings.middleware]
    return stack


def _pages(settings: GatewayConfig) -> tuple[str, ...]:
    """Where the pages are: open, for they tell nothing themselves."""
    docs = (settings.docs_path, "/redoc") if settings.docs_enabled else ()
    return (*docs, settings.console_path) if settings.console_enabled else docs


def _page_files(settings: GatewayConfig) -> tuple[str, ...]:
    """Below which paths the files of the live page are."""
    return (assets_path(settings.console_path) + "/",) if settings.console_enabled else ()


def guards_hosts(settings: GatewayConfig) -> bool:
    """Whether foreign hosts or origins are refused. A browser shows its user's certificate whichever page asks it to."""
    return bool(_allowed_hosts(settings)) or settings.client_cert_mode != "none"


def _allowed_hosts(settings: GatewayConfig) -> Sequence[str]:
    """The names that a Host or Origin header may have; empty for any."""
    return settings.allowed_hosts or (_names_of_loopback(settings.host) if settings.loopback else ())


def _names_of_loopback(host: str) -> tuple[str, ...]:
    """This machine's names, and the address that is bound, which may be another of its own: 127.0.0.2."""
    return (*LOOPBACK, f"[{host}]" if ":" in host else host)


def _always(settings: GatewayConfig) -> list[tuple[bytes, bytes]]:
    """The headers that every response has."""
    headers = [(b"x-content-type-options", b"nosniff")]
    if settings.tls_cert is not None:
        headers.append((b"strict-transport-security", b"max-age=%d" % HSTS_AGE))
    return headers
