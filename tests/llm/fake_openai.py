"""FakeOpenAI: a chat-completions API on a real socket that answers what a test tells it to, and remembers what it was sent.

Written on bare streams, so that it can also do what no web framework lets one do: cut an answer short, or never give one.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Request:
    """What came in."""

    target: str
    """Path and query."""
    headers: dict[str, str]
    """By lower-case name."""
    body: dict[str, Any]
    """The JSON."""
    raw: bytes
    """Everything, as it came over the wire."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes out."""

    chunks: Sequence[bytes]
    """The body; each item is a piece of its own on the wire."""
    status: int = 200
    """The HTTP status."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """More headers."""
    cut: bool = False
    """Close the connection where the body should go on."""
    hang: bool = False
    """After the pieces, neither go on nor close."""


def completion(
    content: str | None = None, *, tool_calls: Sequence[Mapping[str, Any]] = (), usage: Mapping[str, Any] | None = None, **more: Any
) -> Answer:
    """A whole answer."""
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if tool_calls:
        message["tool_calls"] = list(tool_calls)
    reason = more.pop("finish_reason", "tool_calls" if tool_calls else "stop")
    body = {"model": "fake-1", "choices": [{"index": 0, "message": message, "finish_reason": reason}], **more}
    return plain({**body, "usage": dict(usage)} if usage is not None else body)


def plain(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """JSON, or text as it is."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer([data], status, {"Content-Type": "application/json", **(headers or {})})


def streamed(
    *events: Any, done: bool = True, cut: bool = False, hang: bool = False, pieces: Sequence[bytes] | None = None
) -> Answer:
    """A stream of events; `pieces` replaces them by bytes of one's own."""
    chunks = [b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n" for event in events]
    ending = [b"data: [DONE]\n\n"] if done else []
    return Answer(pieces or [*chunks, *ending], headers={"Content-Type": "text/event-stream"}, cut=cut, hang=hang)


def delta(content: str | None = None, *, finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    """One event of a stream."""
    said = {"content": content} if content is not None else {}
    return {"model": "fake-1", "choices": [{"index": 0, "delta": {**said, **more}, "finish_reason": finish_reason}]}


class FakeOpenAI:
    """The server. `answers` are given one by one; `requests` and `connections` tell what it saw."""

    def __init__(self) -> None:
        self.answers: deque[Answer] = deque()
        self.requests: list[Request] = []
        self.connections = 0
        self.asked = asyncio.Event()
        """Set when a request has come."""
        self.closed = asyncio.Event()
        """Set when a client has closed its connection."""
        self.base_url = ""
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def last(self) -> Request:
        """The last request."""
        return self.requests[-1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, with as many requests as the client likes."""
        self.connections += 1
        self._writers.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._exchange(reader, writer):
                pass
        self.closed.set()
        self._writers.discard(writer)
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode().splitlines()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        self.requests.append(Request(first.split()[1], headers, json.loads(body), head + body))
        self.asked.set()
        answer = self.answers.popleft()
        extra = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        writer.write(f"HTTP/1.1 {answer.status} Whatever\r\n{extra}Transfer-Encoding: chunked\r\n\r\n".encode())
        for chunk in answer.chunks:
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await writer.drain()
            await asyncio.sleep(0)
        if answer.hang:
            await reader.read()
        if answer.cut or answer.hang:
            return False
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    def close(self) -> None:
        """Close every connection."""
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def fake_openai() -> AsyncGenerator[FakeOpenAI]:
    """A running server, on a port of its own. Bounded, so that a test that waits for the client to leave cannot hang."""
    fake = FakeOpenAI()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server:
        with anyio.fail_after(20):
            yield fake
        server.close()
        fake.close()
