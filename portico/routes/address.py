"""Address: the path and the query of a request, percent-decoded exactly once (RFC 3986 §2.4).

The path that a server hands on is decoded already, and does not tell a slash from `%2F`, which belongs to its segment. Here an
encoded slash stands as a character that no path can have, until the parameters are out of it. What is no UTF-8 is refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote_to_bytes

from portico.errors import MalformedAddress
from portico.routes.exchange import prefix

if TYPE_CHECKING:
    from starlette.types import Scope

SLASH: Final = "\udc2f"
"""A slash inside of a segment: half of a pair of surrogates, which UTF-8 cannot have."""
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}")


def path_of(scope: Scope, raw: bytes) -> str:
    """The path below the place where the gateway is mounted, with `SLASH` for an encoded slash. Raises `MalformedAddress`.

    `raw`: the path as it was sent. Where nothing in it is encoded, `route_path` has the same for less.
    """
    path = "/".join(_decoded(segment) for segment in raw.partition(b"?")[0].split(b"/"))
    root = prefix(scope)
    return path[len(root) :] if root and path.startswith(root) else path


def without_slash(path: str) -> str:
    """The path without the slash at its end, which asks for the same; that of `/` and of `//` means something else."""
    return path[:-1] if path.endswith("/") and len(path) > 1 and path[-2] != "/" else path


def query_of(query: bytes) -> list[tuple[str, str]]:
    """The names and values of a query, in order; `+` is a blank. Raises `MalformedAddress`."""
    try:
        text = query.decode()
        _check_escapes("query", text)
        return parse_qsl(text, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise MalformedAddress("query", "it is not UTF-8") from None


def _decoded(segment: bytes) -> str:
    _check_escapes("path", segment.decode("latin-1"))
    try:
        return unquote_to_bytes(segment).decode().replace("/", SLASH)
    except UnicodeDecodeError:
        raise MalformedAddress("path", "it is not UTF-8") from None


def _check_escapes(part: str, text: str) -> None:
    wrong = _BAD_ESCAPE.search(text)
    if wrong is not None:
        raise MalformedAddress(part, f"{wrong[0]!r} is no percent-encoded byte")
