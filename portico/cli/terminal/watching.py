"""Watching: keeps a picture true: follows the events of the gateway, and reads anew what they leave open.

Above: the screens, which start `run` and are told of changes. Below: the client. A gateway that goes away is waited for; one that
comes back in another life is read anew from the start. Where there are no events to be had (a key without the scope `admin`), it is
asked every few seconds instead.
"""

from __future__ import annotations

from contextlib import aclosing
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

import anyio

from portico.cli.refusals import refusal
from portico.cli.terminal.picture import MOST, NODE, Link
from portico.client import ClientError, ConnectionFailed, InvalidResponse, PorticoAPIError, Unauthenticated, Unavailable
from portico.client.retries import backoff
from portico.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.cli.terminal.picture import Picture, Record
    from portico.client import AsyncClient

EVERYTHING: Final = ("tree", "runs", "waiting", "letters")
BREATH: Final = 1.0
"""Seconds between two readings of what is stale, however often that becomes so."""
SILENCE: Final = 30.0
"""Seconds without a byte after which the connection counts as lost: figures come once a second."""
ASKING: Final = 2.0
"""Seconds between two questions where there are no events."""
PATIENCE: Final = 5.0
"""Seconds until the next attempt where the gateway refuses the key: somebody has to do something first."""


class Watching:
    """Watches one gateway. Made anew for each session."""

    def __init__(self, client: AsyncClient, picture: Picture, changed: Callable[[], object], *, keyed: bool = False) -> None:
        """`changed` is called after each change of the picture. `keyed`: whether the client has a key."""
        self.client = client
        self.picture = picture
        self.status = ""
        """The status of the runs that are read; empty for all."""
        self.agent = ""
        """Their agent; empty for all."""
        self._changed = changed
        self._keyed = keyed
        self._everyone = True
        self._life = ""
        self._last: str | None = None
        self._wake = anyio.Event()

    async def run(self) -> None:
        """Until it is cancelled."""
        losses = 0
        while True:
            try:
                async with anyio.create_task_group() as both:
                    both.start_soon(self._reread)
                    try:
                        await self._follow()
                    finally:
                        both.cancel_scope.cancel()
            except* ClientError as group:
                error = _first(group)
                losses = 0 if self.picture.link.state in ("live", "asking") else losses + 1
                pause = self._lost(error, losses)
            else:
                pause = 0.0
            await anyio.sleep(pause)

    def want(self, *what: str) -> None:
        """Have something read anew: `tree`, `runs`, `waiting`, `letters`, `usage`."""
        self.picture.stale.update(what)
        self._wake.set()

    async def read_all(self) -> None:
        """Read everything once. Raises `ClientError`."""
        for what in (*EVERYTHING, "usage"):
            await self._read(what)

    # --- following ----------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Over one connection. Always raises `ClientError` in the end."""
        try:
            async with aclosing(self.client.watch(after=self._last, resume=False, silence=SILENCE)) as told:
                async for event in told:
                    data: Any = event.data
                    self._take(event.type, cast("Record", data) if isinstance(data, dict) else {})
                    self._last = event.id if event.id is not None else self._last
        except ClientError as error:
            status = getattr(error, "status", None)
            if status not in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN):
                raise
            await self._ask_again_and_again(f"It is asked every {ASKING:g} s, for it gives no events: {error}")

    def _take(self, name: str, data: Record) -> None:
        if name == "hello":
            self._connected(str(data.get("life") or ""))
        elif name == "gap":
            self.want(*EVERYTHING)
        self.picture.apply(name, data)
        if self.picture.stale:
            self._wake.set()
        self._changed()

    def _connected(self, life: str) -> None:
        """A connection stands. Behind the last event of the same life nothing is missing."""
        if life != self._life or self._last is None:
            self._life, self._last = life, None
            self.want(*EVERYTHING)
        self.picture.link = Link("live")

    async def _ask_again_and_again(self, reason: str) -> None:
        while True:
            for what in EVERYTHING:
                await self._read(what)
            self.picture.link = Link("asking", reason)
            self._changed()
            await anyio.sleep(ASKING)

    def _lost(self, error: ClientError, losses: int) -> float:
        """The seconds until the next attempt."""
        refused = isinstance(error, Unauthenticated)
        self.picture.link = Link("refused" if refused else "lost", refusal(error, self.client.calls.url, keyed=self._keyed).detail)
        self.picture.rows += 1
        self._changed()
        return PATIENCE if refused else max(0.1, backoff(losses))

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _reread(self) -> None:
        """Read what is stale, and then rest, the longer the longer that took: to read a large tree costs the gateway too."""
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            begun = anyio.current_time()
            while self.picture.stale:
                what = self.picture.stale.pop()
                try:
                    await self._read(what)
                except (ConnectionFailed, Unavailable):  # the events tell how it goes on
                    self.want(what)
                    break
                except BaseException:  # also where the connection ended meanwhile: the next one reads it
                    self.picture.stale.add(what)
                    raise
            self._changed()
            await anyio.sleep(max(BREATH, 5 * (anyio.current_time() - begun)))

    async def _read(self, what: str) -> None:
        match what:
            case "tree":
                self.picture.set_tree(await self._tree())
            case "runs":
                narrowed = {name: value for name, value in (("status", self.status), ("agent", self.agent)) if value}
                self.picture.set_runs(await self._records("/runs", "runs", "run_id", narrowed))
            case "waiting":
                self.picture.set_waiting(await self._records("/runs", "runs", "run_id", {"status": "waiting"}))
            case "letters":
                self.picture.set_letters(await self._records("/dead-letters", "dead_letters", "id", {}))
            case "usage":
                self.picture.usage = await self._usage()
                self.picture.rows += 1
            case _ if what.startswith(NODE):
                await self._node(what.removeprefix(NODE))
            case _:
                pass

    async def _node(self, name: str) -> None:
        """One node; where it is there no more, or is shown to nobody alone, the tree."""
        try:
            self.picture.set_node(await self.client.agent(name))
        except (PorticoAPIError, ConfigurationError) as error:
            if isinstance(error, PorticoAPIError) and error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
            self.picture.stale.add("tree")

    async def _tree(self) -> Record:
        root: Any = await self.client.request("GET", "/agents")
        if not isinstance(root, dict) or "name" not in root:
            raise InvalidResponse(self.client.calls.url, "is no tree of agents: look at the address.", status=HTTPStatus.OK)
        return cast("Record", root)

    async def _records(self, path: str, name: str, key: str, query: Record) -> list[Record]:
        """The newest records of a kind: everybody's where that is allowed."""
        everyone = {"everyone": "true"} if self._everyone and path == "/runs" else {}
        try:
            page: Any = await self.client.request("GET", path, query={"limit": MOST, **query, **everyone})
        except ClientError as error:
            if not everyone or getattr(error, "status", None) != HTTPStatus.FORBIDDEN:
                raise
            self._everyone = False
            return await self._records(path, name, key, query)
        found: Any = cast("Any", page).get(name) if isinstance(page, dict) else None
        if not isinstance(found, list):
            raise InvalidResponse(self.client.calls.url, f"has no {name}: look at the address.", status=HTTPStatus.OK)
        records = cast("list[Any]", found)
        return [cast("Record", one) for one in records if isinstance(one, dict) and isinstance(cast("Any", one).get(key), str)]

    async def _usage(self) -> Record | None:
        try:
            found: Any = await self.client.request("GET", "/usage", query={"by": "agent,model"})
        except ClientError as error:
            if getattr(error, "status", None) in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN):
                return None
            raise
        return cast("Record", found) if isinstance(found, dict) else None


def _first(group: BaseExceptionGroup[ClientError]) -> ClientError:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
