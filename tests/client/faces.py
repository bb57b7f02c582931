"""Both clients under one name, so that each test is one for both; and a server that says what a script says, and breaks off."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from anyio import to_thread

from portico.client import AsyncClient, AsyncEventStream, Client, EventStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence


class Face:
    """`call("runs.get", …)`: the method of that name, to its end. What it tells one by one comes as a list."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self.client = client

    async def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """What it returns, or raises."""
        found: Any = self.client
        for part in name.split("."):
            found = getattr(found, part)
        if isinstance(self.client, Client):
            return await to_thread.run_sync(partial(_blocking, found, arguments, options))
        made = found(*arguments, **options)
        if isawaitable(made):
            return await made
        return [one async for one in made]

    async def follow(self, name: str, *arguments: Any, **options: Any) -> Followed:
        """A stream to its end: its events, its result, or its error."""
        found: Any = self.client
        for part in name.split("."):
            found = getattr(found, part)
        stream = found(*arguments, **options)
        followed = Followed(stream)
        try:
            if isinstance(stream, EventStream):
                followed.result = await to_thread.run_sync(partial(_read, stream, followed.events))
            else:
                async for event in stream:
                    followed.events.append(event)
                followed.result = await stream.result()
        except Exception as error:  # noqa: BLE001  # it is what the test asks for
            followed.error = error
        return followed


@dataclass
class Followed:
    """What came of a stream."""

    stream: EventStream[Any] | AsyncEventStream[Any]
    events: list[Any] = field(default_factory=list[Any])
    result: Any = None
    error: Exception | None = None

    @property
    def numbers(self) -> list[int | None]:
        """Of its events."""
        return [event.seq for event in self.events]


def _blocking(found: Callable[..., Any], arguments: Sequence[Any], options: dict[str, Any]) -> Any:
    made = found(*arguments, **options)
    return list(made) if hasattr(made, "__next__") else made


def _read(stream: EventStream[Any], into: list[Any]) -> Any:
    for event in stream:
        into.append(event)  # noqa: PERF402  # those before an error count too
    return stream.result()


KINDS = ("blocking", "awaiting")


@asynccontextmanager
async def facing(kind: str, url: str, **options: Any) -> AsyncGenerator[Face]:
    """A client of that kind."""
    if kind == "blocking":
        with Client(url, **options) as client:
            yield Face(client)
    else:
        async with AsyncClient(url, **options) as client:
            yield Face(client)


@dataclass
class Request:
    """What a scripted server was sent."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Scripted:
    """A server that answers each request with the next part of its script, and closes. `CUT` closes without a word."""

    url: str
    requests: list[Request] = field(default_factory=list[Request])
    times: list[float] = field(default_factory=list[float])


CUT = b""


def answer(status: int, body: bytes = b"", *headers: str, media_type: str = "application/json") -> bytes:
    """A whole response."""
    lines = [f"HTTP/1.1 {status} Anything", f"content-type: {media_type}", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def problem(status: int, slug: str, *headers: str) -> bytes:
    """A problem of a gateway."""
    body = f'{{"type":"/problems/{slug}","title":"T","status":{status},"detail":"D","request_id":"q"}}'.encode()
    return answer(status, body, *headers, media_type="application/problem+json")


def events(*parts: str, run_id: str = "r1") -> bytes:
    """A stream without an end of its own."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nlocation: /runs/{run_id}\r\n\r\n: stream\n\n"
    return (head + "".join(parts)).encode()


def event(seq: int, name: str, data: str = "{}") -> str:
    """One event."""
    return f'id: {seq}\nevent: {name}\ndata: {{"seq":{seq},"at":"2026-01-01T00:00:00Z","data":{data}}}\n\n'


@asynccontextmanager
async def scripted(*script: bytes | Iterable[bytes]) -> AsyncGenerator[Scripted]:
    """A server with this script; a part in pieces is written piece by piece. What comes after its end is cut."""
    parts = iter(script)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *rest = head.strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in rest)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            server.requests.append(Request(line, headers, body))
            server.times.append(asyncio.get_running_loop().time())
            part = next(parts, CUT)
            for piece in (part,) if isinstance(part, bytes) else part:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    server = Scripted(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    async with listener, asyncio.timeout(40):
        yield server
