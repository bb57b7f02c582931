"""Receivers of callbacks: real servers on this machine that keep what comes, and answer as they are told."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from portico.webhooks.signature import verify

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Awaitable, Callable

SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""That of the specification's own example."""


@dataclass(frozen=True)
class Received:
    """One request that came."""

    target: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)

    def check(self, now: float | None = None, secret: str = SECRET) -> None:
        """Raises where it is not signed with the secret."""
        verify(secret, self.headers, self.body, now=now)


@dataclass
class Receiver:
    """A server. `answers` are used up one by one; then it answers 204."""

    port: int = 0
    answers: list[bytes | Callable[[], Awaitable[bytes]]] = field(default_factory=list[Any])
    received: list[Received] = field(default_factory=list[Received])
    connections: int = 0
    came: asyncio.Condition = field(default_factory=asyncio.Condition)

    def url(self, path: str = "/hook", scheme: str = "http", host: str = "127.0.0.1") -> str:
        """Where it is."""
        return f"{scheme}://{host}:{self.port}{path}"

    async def has(self, count: int) -> Received:
        """The newest one, once there are so many."""
        async with self.came:
            await self.came.wait_for(lambda: len(self.received) >= count)
        return self.received[-1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            answer = self.answers.pop(0) if self.answers else answered(204)
            async with self.came:
                self.received.append(Received(first.split()[1], headers, body))
                self.came.notify_all()
            writer.write(answer if isinstance(answer, bytes) else await answer())
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # it left
        finally:
            writer.close()


def answered(status: int, *headers: str, body: bytes = b"") -> bytes:
    """A response."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@asynccontextmanager
async def receiving(
    *answers: bytes | Callable[[], Awaitable[bytes]], tls: ssl.SSLContext | None = None
) -> AsyncGenerator[Receiver]:
    """A receiver that answers like this."""
    receiver = Receiver(answers=list(answers))
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
