"""Log levels: which log messages a client wants: for a session by `logging/setLevel`, or in each request's `_meta` (2026-07-28).

A client that has not asked gets none. Above: `server.py`, `telling.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, get_args

from mcp.server.connection import allowed_log_levels
from mcp.types import EmptyResult, LoggingLevel
from mcp.types.version import MODERN_PROTOCOL_VERSIONS

from portico.kernel.context import LOG_LEVELS
from portico.mcp_bridge.serving.caller import connection_of

if TYPE_CHECKING:
    from mcp.server.connection import Connection
    from mcp.server.context import ServerRequestContext
    from mcp.types import SetLevelRequestParams

METHOD: Final = "logging/setLevel"
_KEY: Final = "portico.log_level"
"""Where the level of a session stands in the state of its connection."""
NONE: Final[frozenset[LoggingLevel]] = frozenset()
_FROM: Final = {level: frozenset(LOG_LEVELS[at:]) & frozenset(get_args(LoggingLevel)) for at, level in enumerate(LOG_LEVELS)}


async def on_set_level(context: ServerRequestContext[Any], params: SetLevelRequestParams) -> EmptyResult:
    """`logging/setLevel`: for as long as the session lives."""
    connection_of(context).state[_KEY] = params.level
    return EmptyResult()


def is_told_logs(connection: Connection) -> bool:
    """Whether the client of a session has asked for log messages."""
    return _KEY in connection.state


def wanted_levels(context: ServerRequestContext[Any]) -> frozenset[str]:
    """The levels that the client of a request wants to be told of."""
    if context.protocol_version in MODERN_PROTOCOL_VERSIONS:
        return allowed_log_levels(context.protocol_version, context.meta)
    level = connection_of(context).state.get(_KEY)
    return _FROM[level] if level is not None else NONE
