"""Face: what every route of one gateway shares: the dispatcher, the limits, and whether the gateway is draining."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from portico.routes.disconnects import Disconnects
from portico.routes.json_lines import JSON_LINES, JsonLines
from portico.routes.open_streams import OpenStreams
from portico.routes.server_sent_events import ServerSentEvents

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from portico.routes.event_form import EventForm
    from portico.routes.newsroom import Newsroom
    from portico.routes.socket_session import SocketSession
    from portico.runs.dispatcher import Dispatcher
    from portico.runs.run import Run
    from portico.webhooks.deliverer import Deliverer


class Face:
    """The HTTP face of one dispatcher.

    Args:
        dispatcher: the one door.
        callbacks: tells who asked for it of the ends of runs.
        request_timeout: seconds that a plain ask may take; a route may say otherwise.
        run_timeout: seconds that a send or an async run may take.
        body_limit: bytes that a request body may have.
        ping: seconds between the heartbeats of a stream.
        compression: whether long replies are compressed.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        callbacks: Deliverer,
        *,
        request_timeout: float,
        run_timeout: float,
        body_limit: int,
        ping: float,
        compression: bool = True,
    ) -> None:
        self.dispatcher = dispatcher
        self.callbacks = callbacks
        self.request_timeout = request_timeout
        self.run_timeout = run_timeout
        self.body_limit = body_limit
        self.ping = ping
        self.compression = compression
        self.drained = asyncio.Event()
        self.on_drain: list[Callable[[], None]] = []
        self.disconnects = Disconnects(dispatcher.runtime.router)
        self.streams = OpenStreams(ping)
        self.newsroom: Newsroom | None = None
        """Tells who watches the whole gateway; None where nobody can."""
        self.sockets: set[SocketSession] = set()
        forms: Sequence[EventForm] = (ServerSentEvents(), *map(JsonLines, JSON_LINES))
        self.event_forms: dict[str, EventForm] = {form.media_type: form for form in forms}

    def open(self) -> None:
        """Take calls (again)."""
        self.dispatcher.draining = False
        self.drained.clear()

    def drain(self) -> None:
        """Take no new calls, and let the open streams end. What is in flight goes on."""
        self.dispatcher.draining = True
        self.drained.set()
        self.streams.ring()
        for session in list(self.sockets):
            session.drain()
        for end_streams in self.on_drain:
            end_streams()

    async def ended_within(self, run: Run, patience: float) -> bool:
        """Whether a run ends within so many seconds; it goes on if not."""
        try:
            async with asyncio.timeout(patience):
                await run.wait()
        except TimeoutError:
            return False
        return True

    async def ended_within_or_drained(self, run: Run, patience: float) -> None:
        """Until a run ends, `patience` seconds have passed, or the gateway drains: who only looks does not hold up the stop."""
        async with asyncio.TaskGroup() as group:
            tasks = {group.create_task(self.ended_within(run, patience)), group.create_task(_until(self.drained))}
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()


async def _until(event: asyncio.Event) -> None:
    await event.wait()
