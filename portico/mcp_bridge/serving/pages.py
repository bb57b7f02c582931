"""Pages: one page of a list, and the cursor that leads to the next.

A cursor holds the key after which its page begins, so it leads on wherever it was, however many came or went meanwhile: what is
there all the time is listed exactly once. Above: whatever is listed. It knows neither tools nor resources.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_right
from typing import TYPE_CHECKING, Final, TypeVar

from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

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
