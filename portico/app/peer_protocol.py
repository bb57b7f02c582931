"""PeerProtocol: an HTTP/1.1 connection whose client may have shown a certificate, and who that certificate speaks for.

Below: `protocol.py`. OpenSSL has verified the certificate before anything here is called; `tls.py` says by which authorities. What
who it speaks for may do is decided in `routes/authentication.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from portico.app.protocol import GatewayProtocol
from portico.routes.exchange import PEER

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence


def peer_name(certificate: Mapping[str, Any] | None) -> str | None:
    """Who a verified certificate speaks for: its first URI, else its first DNS name, else its common name (RFC 5280 §4.2.1.6).

    None where there is no certificate, or none of the three in it.
    """
    if not certificate:
        return None
    alternatives = cast("Sequence[tuple[str, str]]", certificate.get("subjectAltName", ()))
    subject = cast("Sequence[Sequence[tuple[str, str]]]", certificate.get("subject", ()))
    names = [
        *(name for kind, name in alternatives if kind == "URI"),
        *(name for kind, name in alternatives if kind == "DNS"),
        *(name for part in subject for kind, name in part if kind == "commonName"),
    ]
    return next((name for name in names if name), None)


class PeerProtocol(GatewayProtocol):
    """A connection that leaves in each request's scope who the client's certificate speaks for (`PEER`)."""

    _peer: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]  # as uvicorn's
        """After the handshake: the certificate has been verified."""
        super().connection_made(transport)
        self._peer = peer_name(transport.get_extra_info("peercert"))

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)[PEER] = self._peer
