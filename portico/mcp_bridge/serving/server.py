"""The MCP server over one dispatcher: which handler answers what. A list, no logic; the SDK's `Server` speaks both protocol eras.

Above: `http.py` and `stdio.py`, which carry it. Below: one file per kind of thing that MCP serves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp.server.lowlevel import Server

from portico.mcp_bridge.serving.tools import Tools
from portico.version import __version__

if TYPE_CHECKING:
    from portico.mcp_bridge.serving.served import Served


def build_server(served: Served) -> Server[Any]:
    """A server for what is served. It starts nothing and keeps no connection."""
    tools = Tools(served)
    return Server(
        served.options.name,
        version=__version__,
        get_tool_input_schema=tools.input_schema,
        on_list_tools=tools.on_list,
        on_call_tool=tools.on_call,
    )
