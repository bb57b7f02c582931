"""The client of every HTTP benchmark: keep-alive connections that each send a request as soon as they have the last reply.

Run as a program: `load.py HOST PORT CONNECTIONS SECONDS` prints requests per second and latencies as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast

import uvloop

BODY = b'{"text": "hello"}'


class Connection(asyncio.Protocol):
    """One connection. It reads only as much of a reply as it must: the status and the Content-Length."""

    def __init__(self, request: bytes, latencies: list[float], deadline: float) -> None:
        self.request = request
        self.latencies = latencies
        self.deadline = deadline
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self.transport = cast("asyncio.Transport", transport)
        self._send()

    def _send(self) -> None:
        self.sent = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        """Send the next request when the reply is whole."""
        self.buffer += data
        head, end, rest = self.buffer.partition(b"\r\n\r\n")
        if not end:
            return
        at = head.lower().index(b"content-length:") + 15
        if len(rest) < int(head[at:].split(b"\r\n", 1)[0]):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self._finish(RuntimeError(self.buffer.decode(errors="replace")))
            return
        self.buffer = b""
        now = time.perf_counter()
        self.latencies.append(now - self.sent)
        if now < self.deadline:
            self._send()
        else:
            self._finish(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection that ends early is an error."""
        self._finish(exc or ConnectionError("the server closed the connection"))

    def _finish(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None) if error is None else self.done.set_exception(error)
        self.transport.close()


async def load(host: str, port: int, connections: int, seconds: float, path: str = "/agents/echo") -> dict[str, float]:
    """Requests per second, and latencies in milliseconds."""
    request = (
        b"POST %s HTTP/1.1\r\nHost: %s:%d\r\nContent-Type: application/json\r\nAccept: */*\r\nContent-Length: %d\r\n\r\n%s"
        % (path.encode(), host.encode(), port, len(BODY), BODY)
    )
    latencies: list[float] = []
    begun = time.perf_counter()
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Connection(request, latencies, begun + seconds), host, port)
        for _ in range(connections)
    ]
    await asyncio.gather(*(protocol.done for _, protocol in made))
    latencies.sort()
    return {
        "rate": len(latencies) / (time.perf_counter() - begun),
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[len(latencies) * 99 // 100] * 1000,
    }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(load(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))))
