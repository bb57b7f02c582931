"""ReplyHints: the status, headers and media type that an agent wants its reply to have, checked before they reach the wire.

An agent may build a header from what a stranger sent: a line break in it would be a second response, a Content-Length of its own
a broken one. What cannot be is a broken reply of the agent, and the caller is told so.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from portico.errors import InvalidReply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.operations.catalogue import Endpoint

TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""What a header's name may be (RFC 9110 §5.6.2)."""
VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
"""What a header's value may be (RFC 9110 §5.5)."""
SERVERS_OWN: Final = frozenset({"connection", "content-length", "content-type", "keep-alive", "transfer-encoding", "upgrade"})
"""Headers that the server writes; the Content-Type is `media_type`."""
BODILESS: Final = frozenset({204, 205, 304})
"""Statuses without a body (RFC 9110 §6.4.1)."""
MEDIA_TYPE: Final = re.compile(rf"({TOKEN.pattern}/{TOKEN.pattern})[ \t]*(;{VALUE.pattern})?")
"""One media type (RFC 9110 §8.3.1): of several, a browser may take another one than this server."""
RUN_BY_BROWSERS: Final = re.compile(r"text/(html|xml|xsl)|application/xml|.+\+xml", re.IGNORECASE)
"""Media types whose scripts a browser runs: HTML, and every XML (MIME Sniffing §4.6)."""
SANDBOX: Final = (b"content-security-policy", b"sandbox allow-downloads allow-forms allow-modals allow-popups allow-scripts")
"""Such a reply gets an origin of its own: else a script in it, perhaps a stranger's, could do what the console may (CSP Level 3
§6.3.2). An agent that knows better sends a policy of its own."""


class ReplyHints(NamedTuple):
    """What an agent wants, in the form of the wire."""

    status: int
    headers: list[tuple[bytes, bytes]]
    media_type: str | None


def hints_of(meta: Mapping[str, Any], endpoint: Endpoint) -> ReplyHints:
    """The hints of one reply. Raises `InvalidReply` for a status or header that no response can have."""
    status, media_type = meta.get("status", 200), meta.get("media_type")
    faults: list[dict[str, Any]] = []
    if not isinstance(status, int) or not 200 <= status <= 599:  # noqa: PLR2004  # RFC 9110 §15: what a final response may have
        faults.append(_fault("status", f"{status!r} is no status that a reply can have: 200 to 599"))
    if media_type is not None and not (isinstance(media_type, str) and MEDIA_TYPE.fullmatch(media_type)):
        faults.append(_fault("media_type", f"{media_type!r} is no media type"))
    headers: list[tuple[bytes, bytes]] = []
    for name, value in meta.get("headers", {}).items():
        if not TOKEN.fullmatch(name) or not isinstance(value, str) or not VALUE.fullmatch(value):
            faults.append(_fault("headers", f"{name!r}: {value!r} is no header"))
        elif name.lower() in SERVERS_OWN:
            faults.append(_fault("headers", f"{name!r} is the server's to write (the Content-Type is `media_type`)"))
        else:
            headers.append((name.lower().encode("ascii"), value.encode("latin-1")))
    if faults:
        raise InvalidReply(endpoint.agent, endpoint.operation.name, faults)
    if media_type is not None and RUN_BY_BROWSERS.fullmatch(media_type.partition(";")[0].strip()):
        headers += [SANDBOX] if all(name != SANDBOX[0] for name, _ in headers) else []
    return ReplyHints(status, headers, media_type)


def _fault(hint: str, message: str) -> dict[str, Any]:
    return {"path": "", "message": f"the {hint} of the reply: {message}", "type": "hint"}
