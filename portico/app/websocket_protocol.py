"""WebSocketProtocol: uvicorn's, which leaves the end of a connection to its session when the server stops.

uvicorn itself closes every WebSocket at once, whatever is in flight on it. A session closes when its asks are answered.
"""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Given to uvicorn as a class."""

    def shutdown(self) -> None:
        """The server stops: the session knows that from the face, and refuses a handshake that has only begun."""
        if not self.handshake_initiated:
            super().shutdown()
