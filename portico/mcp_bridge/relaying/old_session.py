"""OldSession: the session that a client of the old era has with a server over HTTP, kept alive over the server's restarts.

Above: the relay. Below: the link. Where the server has forgotten the session, a new one is opened with the client's own
`initialize`, what the client had asked for is asked for again, and the client is told that its lists may have changed.
"""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING, Any, Final

import anyio
from mcp.types import CONNECTION_CLOSED, METHOD_NOT_FOUND
from pydantic_core import to_json

from portico.mcp_bridge.relaying.link import PAUSES, SESSION, Unanswered
from portico.mcp_bridge.relaying.routing import object_in, params_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from anyio.abc import TaskGroup

    from portico.mcp_bridge.relaying.link import Link

logger = logging.getLogger("portico.mcp")

NO_STREAM: Final = frozenset({400, 401, 403, 405, 406, 501})
"""What a server says that has no stream for this client."""
LISTS: Final = ("tools", "prompts", "resources")
"""What a server can say of, when it opens a session, that it tells when it changes."""


class OldSession:
    """One at a time.

    Args:
        link: to the server.
        deliver: hands a message to the client.
        tasks: where the stream of the server's own messages is read.
    """

    def __init__(self, link: Link, deliver: Callable[[Mapping[str, Any]], Awaitable[None]], tasks: TaskGroup) -> None:
        self.id: str | None = None
        self._link = link
        self._deliver = deliver
        self._tasks = tasks
        self._version: str | None = None
        self._initialize: Mapping[str, Any] | None = None
        self._initialized: Mapping[str, Any] | None = None
        self._asked: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._renewing = anyio.Lock()
        self._numbers = itertools.count(1)

    @property
    def headers(self) -> dict[str, str]:
        """What every message in it carries."""
        session = {SESSION: self.id} if self.id is not None else {}
        return session | ({"mcp-protocol-version": self._version} if self._version is not None else {})

    def opened(self, initialize: Mapping[str, Any], answer: Mapping[str, Any], session: str | None) -> None:
        """The server has answered the client's `initialize`."""
        if result := object_in(answer.get("result")):
            self._initialize, self._initialized = initialize, None
            self._asked.clear()
            self._take(result, session)

    def passed(self, message: Mapping[str, Any]) -> None:
        """The client has said something, and the server has heard it."""
        params = params_of(message)
        match message.get("method"):
            case "notifications/initialized":
                self._initialized = message
                self._tasks.start_soon(self._listen, self.id)
            case "resources/subscribe":
                self._asked["resource", str(params.get("uri"))] = message
            case "resources/unsubscribe":
                self._asked.pop(("resource", str(params.get("uri"))), None)
            case "logging/setLevel":
                self._asked["level", ""] = message
            case _:
                pass

    def is_lost(self, refusal: Unanswered, session: str | None) -> bool:
        """Whether a server that refuses a message says that it does not know its session."""
        if session is None:
            return False
        code = (refusal.error or {}).get("code")
        return (refusal.status == 404 and code != METHOD_NOT_FOUND) or (refusal.status == 400 and code == CONNECTION_CLOSED)  # noqa: PLR2004

    async def renew(self, lost: str | None) -> None:
        """Open a session in place of one that is lost, unless somebody has done it. Raises `Unanswered`."""
        async with self._renewing:
            if self.id != lost:
                return
            if self._initialize is None:
                raise Unanswered(f"{self._link.url} does not know the session any more.")
            logger.info("%s has forgotten the session: opening another", self._link.url)
            answer, session = await self._ask(self._initialize, {})
            result = object_in(answer.get("result"))
            if not result:
                raise Unanswered(f"{self._link.url} has forgotten the session, and opens no other.", error=answer.get("error"))
            self._take(result, session)
            if self._initialized is not None:
                async with self._link.post(to_json(self._initialized), self.headers):
                    pass
                for message in list(self._asked.values()):
                    await self._ask(message, self.headers)
                self._tasks.start_soon(self._listen, self.id)
        await self._tell_of_lists(result)

    async def close(self) -> None:
        """Tell the server that nobody will come any more."""
        if self.id is not None:
            await self._link.leave(self.headers)

    def _take(self, result: Mapping[str, Any], session: str | None) -> None:
        version: Any = result.get("protocolVersion")
        self.id, self._version = session, version if isinstance(version, str) else None

    async def _ask(self, message: Mapping[str, Any], headers: Mapping[str, str]) -> tuple[Mapping[str, Any], str | None]:
        """A request of our own, with the client's words: its answer, and the session that it opens."""
        own = f"portico-{next(self._numbers)}"
        async with self._link.post(to_json({**message, "id": own}), headers) as reply:
            async for answer in reply.messages():
                if answer.get("id") == own:
                    return answer, reply.session
        raise Unanswered(f"{self._link.url} has not answered.", began=True)

    async def _tell_of_lists(self, result: Mapping[str, Any]) -> None:
        capabilities = object_in(result.get("capabilities"))
        for kind in LISTS:
            if object_in(capabilities.get(kind)).get("listChanged"):
                await self._deliver({"jsonrpc": "2.0", "method": f"notifications/{kind}/list_changed"})

    async def _listen(self, session: str | None) -> None:
        """Hand on what the server says by itself, for as long as it is this session."""
        last: str | None = None
        pause, longest = PAUSES
        while self.id == session:
            resumed = {"last-event-id": last} if last is not None else {}
            try:
                async with self._link.listen({**self.headers, **resumed}) as reply:
                    async for message in reply.messages():
                        last, pause = reply.last_event, PAUSES[0]
                        await self._deliver(message)
            except Unanswered as error:
                if self.is_lost(error, session):
                    if await self._renewed(session):
                        return
                elif error.status in NO_STREAM:
                    return
            await anyio.sleep(pause)
            pause = min(pause * 2, longest)

    async def _renewed(self, session: str | None) -> bool:
        try:
            await self.renew(session)
        except Unanswered as error:
            logger.warning("%s", error)
            return False
        return True
