"""The MCP server over one dispatcher: which handler answers what. A list, no logic; the SDK's `Server` speaks both protocol eras.

Above: `http.py` and `stdio.py`, which carry it. Below: one file per kind of thing that MCP serves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mcp.server.lowlevel import NotificationOptions, Server
from mcp.types import NotificationParams, SetLevelRequestParams

from portico.mcp_bridge.serving import log_levels
from portico.mcp_bridge.serving.completion import Completions
from portico.mcp_bridge.serving.exchanges import Exchanges
from portico.mcp_bridge.serving.prompts import Prompts
from portico.mcp_bridge.serving.resources import Resources
from portico.mcp_bridge.serving.serving_meter import Metered
from portico.mcp_bridge.serving.subscriptions import Subscriptions
from portico.mcp_bridge.serving.tasks import Tasks
from portico.mcp_bridge.serving.tools import Tools
from portico.version import __version__

if TYPE_CHECKING:
    from mcp.server.models import InitializationOptions

    from portico.mcp_bridge.serving.served import Served


def build_server(served: Served) -> Server[Any]:
    """A server for what is served. It starts nothing and keeps no connection."""
    tools, resources, prompts = Tools(served), Resources(served), Prompts(served)
    subscriptions = Subscriptions(served, resources)
    server = _Server(
        served.options.name,
        version=__version__,
        get_tool_input_schema=tools.input_schema,
        on_list_tools=tools.on_list,
        on_call_tool=cast("Any", tools.on_call),  # whose tasks are a form of the extension, which the SDK lets through
        on_list_resources=resources.on_list,
        on_list_resource_templates=resources.on_list_templates,
        on_read_resource=resources.on_read,
        on_subscribe_resource=subscriptions.on_subscribe,
        on_unsubscribe_resource=subscriptions.on_unsubscribe,
        on_subscriptions_listen=subscriptions.on_listen,
        on_list_prompts=prompts.on_list,
        on_get_prompt=prompts.on_get,
        on_completion=Completions(served, prompts, resources).on_complete,
    )
    server.middleware[:] = [Exchanges(served.dispatcher)]  # the SDK's own would make server spans beside ours
    server.add_notification_handler("notifications/initialized", NotificationParams, served.news.on_initialized)
    server.middleware.append(Metered(served))
    Tasks(served).register(server)
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
