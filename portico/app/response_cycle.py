"""ResponseCycle: how one response is written: as uvicorn does it, with the head checked as a whole instead of header by header.

uvicorn searches each name and each value with a regular expression; with the seven headers of a reply that is a tenth of what a
request costs. Here the head is put together first, and one look says whether anything in it could end it early. What is unusual
(a client that reads slowly, a HEAD, a body) goes uvicorn's own way.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

if TYPE_CHECKING:
    from collections.abc import Iterable

_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""What no head may have in it, beside the ends of its lines (RFC 9110 §5.5)."""
_BODILESS: Final = frozenset({204, 304})


class ResponseCycle(RequestResponseCycle):
    """One request and its response. Instances are uvicorn's own, of which `GatewayProtocol` changes the class."""

    async def send(self, message: Any) -> None:
        """One ASGI message."""
        usual = message["type"] == "http.response.start" and not self.response_started and self.scope["method"] != "HEAD"
        if not usual or self.disconnected or self.flow.write_paused:
            await super().send(message)
            return
        self.response_started = True
        self.waiting_for_100_continue = False
        status: int = message["status"]
        self.transport.write(self._head(status, (*self.default_headers, *message.get("headers", ()))))

    def _head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        lines, ends, closes = [STATUS_LINE[status]], 2, False
        for name, value in headers:
            ends += 1
            lines += (name, b": ", value, b"\r\n")
            if name[0] == 99 or name[0] == 116 or name[0] < 97:  # noqa: PLR2004  # c, t, a capital: few headers are looked at twice
                lower = name.lower()
                if lower == b"content-length" and self.chunked_encoding is None:
                    self.expected_content_length, self.chunked_encoding = int(value), False
                elif lower == b"transfer-encoding" and value.lower() == b"chunked":
                    self.expected_content_length, self.chunked_encoding = 0, True
                elif lower == b"connection" and b"close" in [token.lower().strip() for token in value.split(b",")]:
                    self.keep_alive, closes = False, True
        if not self.keep_alive and not closes:
            ends += 1
            lines.append(b"connection: close\r\n")
        if self.chunked_encoding is None and status not in _BODILESS:
            self.chunked_encoding = True
            ends += 1
            lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != ends or head.count(b"\r") != ends or _CONTROL.search(head) is not None:
            raise RuntimeError("Invalid HTTP header.")
        return head
