"""Logging in: one connection to a remote server with somebody there to log in; nothing stays of it but the tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp import Client
from mcp.types import Implementation

from portico.errors import MCPServerUnavailable
from portico.kernel.clock import SystemClock
from portico.kernel.inbox import Inbox
from portico.mcp_bridge.calling.connection import Life
from portico.mcp_bridge.calling.login import waiting_for_login
from portico.mcp_bridge.calling.remote import remote
from portico.mcp_bridge.calling.upstream import reason_of
from portico.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.mcp_bridge.config import MCPServerConfig


async def log_in(config: MCPServerConfig, show: Callable[[str], None], timeout: float) -> int:
    """Log in, and keep the tokens. Returns how many tools the server lists to whom has logged in.

    Args:
        config: the server's settings.
        show: called with the address that somebody has to open.
        timeout: seconds that they have.

    Raises:
        MCPServerUnavailable: it cannot be reached, or nobody logged in.
    """
    settings = config.authorization
    port = settings.callback_port if settings is not None else 0
    life = Life(Inbox(SystemClock()))
    try:
        async with waiting_for_login(port, show, timeout) as login:
            streams = remote(config, life, login)
            async with Client(streams, client_info=Implementation(name="portico", version=__version__), cache=None) as client:
                return len((await client.list_tools()).tools) if client.server_capabilities.tools is not None else 0
    except Exception as error:  # noqa: BLE001  # the border to the SDK and to a stranger's server
        raise MCPServerUnavailable(config.name, life.ended or reason_of(error)) from None
