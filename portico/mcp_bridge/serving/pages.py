"""Pages: one page of a list, and the cursor that leads to the next.

A cursor holds the key after which its page begins, so it leads on wherever it was, however many came or went meanwhile: what is
there all the time is listed exactly once. Above: whatever is listed. It knows neither tools nor resources.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, TypeVar

from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS

from portico.mcp_bridge.serving.caller import is_known

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server.context import ServerRequestContext
    from mcp.types import PaginatedRequestParams

LIST_TTL: Final = 10_000
"""Milliseconds for which a list may be taken to be what it was; whoever listens hears of a change at once."""

T = TypeVar("T")


class Hints(TypedDict):
    """For how long, and for whom, what is listed may be kept (MCP 2026-07-28, caching)."""

    ttl_ms: int
    cache_scope: Literal["private", "public"]


_MARK: Final = b"after:"
"""What a cursor of ours begins with, before it is encoded."""
_LONGEST: Final = 4096
"""Characters that a cursor may have."""


def page_of(things: Mapping[str, T], cursor: str | None, size: int) -> tuple[list[T], str | None]:
    """One page, and the cursor of the next; None after the last.

    Args:
        things: by key, in the order of keys.
        cursor: that of the page; None for the first.
        size: how many it may have.

    Raises:
        MCPError: -32602, where the cursor is not one of ours.
    """
    keys = list(things)
    first = 0 if cursor is None else bisect_right(keys, _key(cursor))
    page = keys[first : first + size]
    more = first + size < len(keys)
    return [things[key] for key in page], _cursor(page[-1]) if more else None


def cursor_of(params: PaginatedRequestParams | None) -> str | None:
    """The cursor that a request has."""
    return params.cursor if params is not None else None


def hints(context: ServerRequestContext[Any]) -> Hints:
    """The hints of a list that may depend on who asks."""
    return {"ttl_ms": LIST_TTL, "cache_scope": "private" if is_known(context) else "public"}


def _cursor(key: str) -> str:
    return urlsafe_b64encode(_MARK + key.encode()).decode().rstrip("=")


def _key(cursor: str) -> str:
    try:
        said = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)) if len(cursor) <= _LONGEST else b""
        if said.startswith(_MARK):
            key = said.removeprefix(_MARK).decode()
            if _cursor(key) == cursor:
                return key
    except (UnicodeError, binascii.Error):
        pass
    raise MCPError(INVALID_PARAMS, "The cursor is none that this server gave: leave it out to begin at the first page.")
