"""The MCP server over one dispatcher: which handler answers what. A list, no logic; the SDK's `Server` speaks both protocol eras.

Above: `http.py` and `stdio.py`, which carry it. Below: one file per kind of thing that MCP serves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp.server.lowlevel import NotificationOptions, Server
from mcp.types import NotificationParams, SetLevelRequestParams

from portico.mcp_bridge.serving import log_levels
from portico.mcp_bridge.serving.tools import Tools
from portico.version import __version__

if TYPE_CHECKING:
    from mcp.server.models import InitializationOptions

    from portico.mcp_bridge.serving.served import Served


def build_server(served: Served) -> Server[Any]:
    """A server for what is served. It starts nothing and keeps no connection."""
    tools = Tools(served)
    server = _Server(
        served.options.name,
        version=__version__,
        get_tool_input_schema=tools.input_schema,
        on_list_tools=tools.on_list,
        on_call_tool=tools.on_call,
        on_subscriptions_listen=served.news.on_listen,
    )
    server.add_notification_handler("notifications/initialized", NotificationParams, served.news.on_initialized)
    server.add_request_handler(log_levels.METHOD, SetLevelRequestParams, log_levels.on_set_level)
    return server


class _Server(Server[Any]):
    """The SDK's, which tells clients of the old era by itself that it has no news for them."""

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        """What `initialize` is answered with."""
        told = notification_options or NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
        return super().create_initialization_options(told, experimental_capabilities, extensions)
