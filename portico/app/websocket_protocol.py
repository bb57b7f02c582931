"""WebSocketProtocol: uvicorn's, which leaves the end of a connection to its session when the server stops.

uvicorn itself closes every WebSocket at once, whatever is in flight on it. A session closes when its asks are answered. A handshake
that is refused with a response is no mistake of the application's, and is not logged as one: strangers would fill the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

if TYPE_CHECKING:
    from collections.abc import Mapping


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Given to uvicorn as a class."""

    def shutdown(self) -> None:
        """The server stops: the session knows that from the face, and refuses a handshake that has only begun."""
        if not self.handshake_initiated:
            super().shutdown()

    async def send(self, message: Mapping[str, Any]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]  # all of uvicorn's kinds
        """The same as uvicorn's, after which a refusal that is whole ends the handshake."""
        await super().send(message)  # pyright: ignore[reportArgumentType]
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True
