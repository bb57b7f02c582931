"""From the gateway's settings to those of its MCP server: `portico serve` and `portico mcp` serve the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portico.mcp_bridge.serving.options import ServingOptions
from portico.mcp_bridge.serving.tool_choice import ToolChoice

if TYPE_CHECKING:
    from portico.app.settings import GatewayConfig


def serving_options(settings: GatewayConfig) -> ServingOptions:
    """What the MCP server is told of the settings."""
    return ServingOptions(
        run_timeout=settings.run_timeout,
        body_limit=settings.body_limit,
        choice=ToolChoice(settings.mcp_allow, settings.mcp_deny, settings.mcp_rename),
        page_size=settings.mcp_page_size,
        input_timeout=settings.mcp_input_timeout,
        client_limit=settings.mcp_client_limit,
        task_after=settings.mcp_task_after,
        direct=settings.mcp_direct,
        sessions_per_caller=settings.mcp_sessions_per_caller,
        max_sessions=settings.mcp_max_sessions,
        session_idle_timeout=settings.mcp_session_idle_timeout,
    )
