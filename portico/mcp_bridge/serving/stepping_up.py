"""SteppingUp: tells a client whose token allows too little what it needs, so that it can ask its user for more.

MCP 2025-11-25, authorization: 403 with the scopes in `WWW-Authenticate` (RFC 6750 §3.1, RFC 9728 §5.1). That is an answer of
HTTP, so it comes before the SDK begins one. Who comes with a key, or where no tokens are taken, cannot step up: there, the call is
a tool's error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from mcp.types import INVALID_REQUEST

from portico.auth.principal import credential_of
from portico.errors import InsufficientScope
from portico.mcp_bridge.serving.caller import SCOPES
from portico.mcp_bridge.serving.message_guard import RefusedMessage
from portico.runs.call import permits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

    from starlette.types import Scope

    from portico.mcp_bridge.serving.served import Served


DOTS: Final = 2
"""Between the three parts of a token."""


class SteppingUp:
    """Judges calls by their tools' scopes.

    Args:
        served: the tools.
        metadata_url: from a request's scope to where its client finds out how to get a token.
    """

    def __init__(self, served: Served, metadata_url: Callable[[MutableMapping[str, Any]], str | None]) -> None:
        self._served = served
        self._metadata_url = metadata_url

    def judge(self, message: Mapping[str, Any], scope: Scope) -> None:
        """Raises `RefusedMessage` for a call that needs more than the caller has."""
        granted: frozenset[str] | None = scope.get(SCOPES)
        if message.get("method") != "tools/call" or not _has_token(scope):
            return
        params: Any = message.get("params")
        name: Any = cast("dict[str, Any]", params).get("name") if isinstance(params, dict) else None
        tool = self._served.tools.get(name) if isinstance(name, str) else None
        if tool is None or permits(granted, tool.endpoint.scopes):
            return
        error = InsufficientScope(f"The tool {name!r}", tool.endpoint.scopes)
        parts = ['Bearer realm="portico"', 'error="insufficient_scope"', f'scope="{" ".join(error.scopes)}"']
        metadata = self._metadata_url(scope)
        if metadata is not None:
            parts.append(f'resource_metadata="{metadata}"')
        raise RefusedMessage(403, INVALID_REQUEST, error.detail, key=message.get("id"), challenge=", ".join(parts))


def _has_token(scope: Scope) -> bool:
    """Whether the caller has shown what has the form of a signed token (RFC 7515 §7.1); the keys of a key file have no dots."""
    found = dict(reversed(scope["headers"]))
    credential = credential_of(found.get(b"authorization"), found.get(b"x-api-key"))
    return credential is not None and credential.count(b".") == DOTS
