"""Watch: looks after what clients have subscribed to, and tells the news of it: runs, the tree, and what agents say of their own.

It looks only while somebody has subscribed: a run that nobody follows costs nothing. Above: `subscriptions.py`, which says who
wants what. Below: the runs, the kernel's bus, and `news.py`, which tells each client.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from portico.kernel.events import EventKind
from portico.mcp_bridge.serving.own_resources import Place, place_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portico.kernel.bus import Subscription
    from portico.kernel.events import KernelEvent
    from portico.mcp_bridge.serving.news import News
    from portico.runs.dispatcher import Dispatcher
    from portico.runs.run import Run

_BUS = ""
"""What is watched that is no run."""


@dataclass(slots=True)
class _Watched:
    """One run, or the bus, and what of it is wanted."""

    places: dict[str, Place | None] = field(default_factory=dict[str, "Place | None"])
    """By address; None for what an agent declares."""
    task: asyncio.Task[None] | None = None
    events: Subscription | None = None
    """Of the bus."""


class Watch:
    """Watches for one server. To be called on the event loop of the runtime."""

    def __init__(self, dispatcher: Dispatcher, news: News) -> None:
        self._runtime = dispatcher.runtime
        self._news = news
        self._wanted: Counter[str] = Counter()
        self._watched: dict[str, _Watched] = {}
        self._keys: dict[str, str] = {}

    def __len__(self) -> int:
        """How many addresses somebody has subscribed to."""
        return len(self._wanted)

    def add(self, uri: str, run: Run | None = None) -> None:
        """One more wants it. `run`: the one whose address it is."""
        self._wanted[uri] += 1
        if self._wanted[uri] > 1:
            return
        key = self._keys[uri] = _BUS if run is None else run.run_id
        watched = self._watched.get(key)
        if watched is None:
            watched = self._watched[key] = _Watched()
            if run is None:
                watched.events = self._runtime.subscribe("*")
                following = self._hear(watched.events, watched)
            else:
                following = self._follow(run, watched)
            watched.task = self._runtime.router.start_task(following, f"mcp watch {key}")
        watched.places[uri] = place_of(uri)

    def drop(self, uris: Iterable[str]) -> None:
        """One less wants each of these."""
        for uri in uris:
            self._wanted[uri] -= 1
            if self._wanted[uri] <= 0:
                del self._wanted[uri]
                self._look_less(uri)

    def _look_less(self, uri: str) -> None:
        key = self._keys.pop(uri)
        watched = self._watched[key]
        del watched.places[uri]
        if not watched.places:
            del self._watched[key]
            if watched.task is not None:
                watched.task.cancel()
            if watched.events is not None:
                watched.events.close()

    async def _follow(self, run: Run, watched: _Watched) -> None:
        """Tell of one run until it has ended: of its record when its status changes, of its events when there are more."""
        status, last = run.status, run.last_visible
        while not run.done:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            run.waken(waiter)
            try:
                await waiter
            finally:
                run.forget(waiter)
            changed: set[str] = set()
            if run.status is not status:
                changed |= {"run", "output"} if run.done else {"run"}
            if run.last_visible != last:
                changed.add("events")
            status, last = run.status, run.last_visible
            for uri, place in watched.places.items():
                if place is not None and place.kind in changed:
                    self._news.resource_updated(uri)

    async def _hear(self, events: Subscription, watched: _Watched) -> None:
        """Tell of the tree when a process comes, goes or takes a step, and of what agents say."""
        async for published in events:
            event = cast("KernelEvent", published.data)
            box = self._runtime.registry.get(event.name)
            agent = (box.behind if box is not None else "") or event.name
            for uri, place in watched.places.items():
                if published.missed or _concerns(event, agent, uri, place):
                    self._news.resource_updated(uri)


def _concerns(event: KernelEvent, agent: str, uri: str, place: Place | None) -> bool:
    """Whether what stands at an address is another after an event. `agent`: to whom it happened, as the outside knows it."""
    if place is None:
        return event.kind is EventKind.RESOURCE_UPDATED and event.data["uri"] == uri
    if not event.kind.startswith("process.") or event.kind is EventKind.PROCESS_BLOCKING:
        return False
    return place.kind == "agents" or agent == place.name
