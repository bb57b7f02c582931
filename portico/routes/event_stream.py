"""The event stream: a run's events as Server-Sent Events (WHATWG HTML §9.2), with heartbeats, until the last one.

Errors after the first byte are a terminal event that carries the same problem object that a plain response would have.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import to_json

from portico.routes.exchange import REPLAYED, prefix, printed, problem_of
from portico.runs.event import TERMINAL, Event, EventName
from portico.runs.run_view import rfc3339

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

    from portico.routes.face import Face
    from portico.runs.run import Run

EVENT_STREAM: Final = "text/event-stream"
HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


def rendered(event: Event, scope: Scope, run: Run) -> bytes:
    """One event in the wire's form."""
    data: Any = event.data
    if event.type in TERMINAL and event.type != EventName.SUCCEEDED and run.error is not None:
        data = problem_of(scope, run.error, run.run_id)
    name = " ".join(event.type.splitlines()).encode(errors="replace")  # agents choose these
    at = rfc3339(event.timestamp).encode()
    return b'id: %d\nevent: %s\ndata: {"seq":%d,"at":"%s","data":%s}\n\n' % (event.seq, name, event.seq, at, printed(data))


async def stream(
    scope: Scope,
    receive: Receive,
    send: Send,
    run: Run,
    face: Face,
    *,
    after: int = 0,
    cancel_on_disconnect: bool = False,
    replayed: bool = False,
) -> None:
    """Send a run's events with `seq` above `after`, until the last one, or until the client leaves or the gateway drains."""
    location = f"{prefix(scope)}/runs/{run.run_id}".encode("latin-1")
    headers = [*HEADERS, (b"location", location), *((REPLAYED,) if replayed else ())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    with face.streaming():
        async with asyncio.TaskGroup() as group:
            writer = group.create_task(_write(scope, send, run, face, after))
            listener = group.create_task(_left(receive))
            await asyncio.wait({writer, listener}, return_when=asyncio.FIRST_COMPLETED)
            if not writer.done() and cancel_on_disconnect:
                run.cancel("Its caller went away.")
            writer.cancel()
            listener.cancel()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _write(scope: Scope, send: Send, run: Run, face: Face, after: int) -> None:
    """Events as they come; a comment line every `ping` seconds in between; a gap event where events were removed."""

    async def write(chunk: bytes, *, more: bool = True) -> None:
        await send({"type": "http.response.body", "body": chunk, "more_body": more})

    await write(b": stream of run %s\n\n" % run.run_id.encode())
    events, expected = run.follow(after), after + 1
    async with asyncio.TaskGroup() as group:
        upcoming = group.create_task(_next(events))
        drained = group.create_task(_true(face.drained))
        while True:
            await asyncio.wait({upcoming, drained}, timeout=face.ping, return_when=asyncio.FIRST_COMPLETED)
            if upcoming.done():
                event = upcoming.result()
                if event is None:
                    break
                if event.seq > expected:
                    await write(b"event: gap\ndata: %s\n\n" % to_json({"from": expected, "to": event.seq - 1}))
                expected = event.seq + 1
                await write(rendered(event, scope, run))
                upcoming = group.create_task(_next(events))
            elif drained.done():
                await write(b"event: stream.draining\ndata: %s\n\n" % to_json({"last_event_id": expected - 1}))
                break
            else:
                await write(b": ping\n\n")
        upcoming.cancel()
        drained.cancel()
    await write(b"", more=False)


async def _next(events: AsyncIterator[Event]) -> Event | None:
    return await anext(events, None)


async def _true(event: asyncio.Event) -> None:
    await event.wait()
