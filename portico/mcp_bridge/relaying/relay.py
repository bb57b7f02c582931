"""Relay: between a client on a wire and an MCP server over HTTP. Messages pass as they are, in both protocol eras.

Above: `portico mcp --url`. Below: the link, the session of the old era, the headers of the new. It understands of a message only
what carrying it needs: whether it asks, which era it is of, what it cancels. Whatever is asked is answered, or is cancelled.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
from mcp.types import CONNECTION_CLOSED, INVALID_REQUEST, PARSE_ERROR
from mcp.types.jsonrpc import HEADER_MISMATCH
from pydantic_core import from_json, to_json

from portico.mcp_bridge.pipes import MAX_LINE, CutLine, read_lines, write_all
from portico.mcp_bridge.relaying.link import PAUSES, Link, Unanswered
from portico.mcp_bridge.relaying.old_session import LISTS, OldSession
from portico.mcp_bridge.relaying.routing import Routing, object_in, params_of, version_of
from portico.mcp_bridge.wire import stop_on_signal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anyio.abc import TaskGroup

    from portico.mcp_bridge.relaying.link import Reply
    from portico.mcp_bridge.wire import Wire

logger = logging.getLogger("portico.mcp")

LISTEN: Final = "subscriptions/listen"
ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
SUBSCRIPTION: Final = "io.modelcontextprotocol/subscriptionId"
GOODBYE: Final = 2.0
"""Seconds to end the session in, when the client has gone."""
ATTEMPTS: Final = 3
"""How often a message is sent that a server refuses because it has forgotten the session."""
REPEATABLE: Final = frozenset(
    {
        "completion/complete",
        "initialize",
        "ping",
        "prompts/get",
        "prompts/list",
        "resources/list",
        "resources/read",
        "resources/templates/list",
        "server/discover",
        "tasks/get",
        "tools/list",
    }
)
"""Methods that change nothing: where the connection breaks before the answer, they are sent again."""


@dataclass(slots=True)
class _Pending:
    """A request that is under way."""

    scope: anyio.CancelScope
    modern: bool
    cancelled: bool = False


class Relay:
    """One client, one server.

    Args:
        link: to the server.
        wire: to the client.
    """

    def __init__(self, link: Link, wire: Wire) -> None:
        self._link = link
        self._wire = wire
        self._routing = Routing()
        self._pending: dict[str | int, _Pending] = {}
        self._said, self._to_write = anyio.create_memory_object_stream[bytes](0)

    async def run(self) -> None:
        """Carry messages until the client closes its side, or SIGTERM or SIGINT comes."""
        async with self._link, anyio.create_task_group() as tasks:
            self._tasks: TaskGroup = tasks
            self._session = OldSession(self._link, self._write, tasks)
            tasks.start_soon(self._keep_writing)
            if threading.current_thread() is threading.main_thread():
                tasks.start_soon(stop_on_signal, tasks.cancel_scope)
            try:
                async for line in read_lines(self._wire.reads, cut=True):
                    await self._take(line)
                tasks.cancel_scope.cancel()
            finally:
                with anyio.move_on_after(GOODBYE, shield=True):
                    await self._session.close()

    # --- from the client ----------------------------------------------------------------------------------------------

    async def _take(self, line: bytes) -> None:
        if isinstance(line, CutLine):
            await self._refuse(INVALID_REQUEST, f"A line has more than {MAX_LINE} bytes.")
            return
        if not line.strip():
            return
        try:
            value: Any = from_json(line, allow_inf_nan=False)
        except ValueError as error:
            await self._refuse(PARSE_ERROR, f"The line is no JSON: {error}.")
            return
        if not isinstance(value, dict):
            await self._refuse(INVALID_REQUEST, "A message is an object, one on each line.")
            return
        message = cast("dict[str, Any]", value)
        method, key = message.get("method"), message.get("id")
        if method is None:
            await self._hand_on(message, line)  # the answer to what the server has asked
        elif not isinstance(method, str) or not isinstance(message.get("params", {}), dict | None):
            await self._refuse(INVALID_REQUEST, "The method must be text, and the params an object.")
        elif "id" not in message:
            await self._notify(message, line)
        elif not isinstance(key, str | int) or isinstance(key, bool):
            await self._refuse(INVALID_REQUEST, "The id must be text or a whole number.")
        else:
            self._tasks.start_soon(self._request, message, line, key)
            await anyio.lowlevel.checkpoint()  # what cancels it may be the next line

    async def _notify(self, message: Mapping[str, Any], line: bytes) -> None:
        if message["method"] == "notifications/cancelled":
            pending = self._pending.get(params_of(message).get("requestId", ""))
            if pending is not None:
                pending.cancelled = True
                if pending.modern:  # in the new era, to close the answer is to cancel
                    pending.scope.cancel()
            if pending is None or pending.modern:
                return
        await self._hand_on(message, line)

    async def _hand_on(self, message: Mapping[str, Any], line: bytes) -> None:
        """Send what has no answer."""
        version = version_of(message)
        try:
            for _ in range(ATTEMPTS):
                session = self._session.id
                headers = self._routing.headers(message, version) if version is not None else self._session.headers
                try:
                    async with self._link.post(line, headers):
                        pass
                except Unanswered as error:
                    if version is not None or not self._session.is_lost(error, session):
                        raise
                    await self._session.renew(session)
                    if "method" not in message:
                        return  # the question has gone with the session
                else:
                    break
        except Unanswered as error:
            logger.warning("A message could not be handed on: %s", error)
        else:
            self._session.passed(message)

    async def _request(self, message: Mapping[str, Any], line: bytes, key: str | int) -> None:
        version = version_of(message)
        with anyio.CancelScope() as scope:
            pending = self._pending[key] = _Pending(scope, version is not None)
            try:
                if version is None:
                    await self._ask_in_session(message, line, key)
                elif message["method"] == LISTEN:
                    await self._listen(message, line, key, version)
                else:
                    await self._ask(message, line, key, version)
            except Unanswered as error:
                if not pending.cancelled:
                    await self._answer_with(key, error)
            finally:
                if self._pending.get(key) is pending:
                    del self._pending[key]

    # --- in the new era -----------------------------------------------------------------------------------------------

    async def _ask(self, message: Mapping[str, Any], line: bytes, key: str | int, version: str) -> None:
        try:
            await self._exchange(message, line, key, self._routing.headers(message, version))
        except Unanswered as error:
            mismatch = object_in(error.error).get("code") == HEADER_MISMATCH
            if not mismatch or message["method"] != "tools/call" or self._routing.knows(str(params_of(message).get("name"))):
                raise
            await self._learn(message, version)
            await self._exchange(message, line, key, self._routing.headers(message, version))

    async def _learn(self, message: Mapping[str, Any], version: str) -> None:
        """List the tools: the client knows from elsewhere one that has arguments to repeat in the headers."""
        meta: Any = params_of(message).get("_meta")
        cursor: Any = None
        while True:
            params: dict[str, Any] = {"_meta": meta} if cursor is None else {"_meta": meta, "cursor": cursor}
            asked = {"jsonrpc": "2.0", "id": "portico", "method": "tools/list", "params": params}
            async with self._link.post(to_json(asked), self._routing.headers(asked, version)) as reply:
                result = object_in(None)
                async for answer in reply.messages():
                    result = object_in(answer.get("result"))
            self._routing.learn(result)
            before, cursor = cursor, result.get("nextCursor")
            if cursor is None or cursor == before:
                return

    async def _listen(self, message: Mapping[str, Any], line: bytes, key: str | int, version: str) -> None:
        """A stream of news, opened again whenever it ends: a gateway ends it when it is restarted."""
        headers = self._routing.headers(message, version)
        acknowledged = False
        pause, longest = PAUSES
        while True:
            began = anyio.current_time()
            try:
                async with self._link.post(line, headers) as reply:
                    async for news in reply.messages():
                        if news.get("method") == ACKNOWLEDGED and acknowledged:
                            await self._tell_of_lists(message, key)
                        elif "method" in news:
                            acknowledged = acknowledged or news["method"] == ACKNOWLEDGED
                            await self._write(news)
                        elif not acknowledged or "error" in news:
                            await self._write({**news, "id": key})
                            return
            except Unanswered as error:
                if not acknowledged or error.error is not None:
                    raise
                logger.info("%s", error)
            if not acknowledged:
                raise Unanswered(f"{self._link.url} has ended the stream before it began.")
            if anyio.current_time() - began > longest:
                pause = PAUSES[0]
            await anyio.sleep(pause)
            pause = min(pause * 2, longest)

    async def _tell_of_lists(self, message: Mapping[str, Any], key: str | int) -> None:
        """What may have changed while nobody listened."""
        wanted = object_in(params_of(message).get("notifications"))
        for kind in LISTS:
            if wanted.get(f"{kind}ListChanged"):
                params = {"_meta": {SUBSCRIPTION: key}}
                await self._write({"jsonrpc": "2.0", "method": f"notifications/{kind}/list_changed", "params": params})

    # --- in the old era -----------------------------------------------------------------------------------------------

    async def _ask_in_session(self, message: Mapping[str, Any], line: bytes, key: str | int) -> None:
        opens = message["method"] == "initialize"
        for attempt in range(1, ATTEMPTS + 1):
            session = self._session.id
            try:
                await self._exchange(message, line, key, {} if opens else self._session.headers)
            except Unanswered as error:
                if opens or attempt == ATTEMPTS or not self._session.is_lost(error, session):
                    raise
                await self._session.renew(session)
            else:
                self._session.passed(message)
                return

    # --- one exchange -------------------------------------------------------------------------------------------------

    async def _exchange(self, message: Mapping[str, Any], line: bytes, key: str | int, headers: Mapping[str, str]) -> None:
        """Send a request, and write what comes until its answer. Raises `Unanswered`."""
        for again in (message["method"] in REPEATABLE, False):
            last: str | None = None
            try:
                async with self._link.post(line, headers) as reply:
                    if await self._answered(message, key, reply):
                        return
                    last = reply.last_event
            except Unanswered as error:
                if not (again and error.began):
                    raise
                continue
            if last is not None and await self._resumed(message, key, last):
                return
        raise Unanswered(f"{self._link.url} has ended its answer before it was whole. It may have done what was asked.", began=True)

    async def _resumed(self, message: Mapping[str, Any], key: str | int, last: str | None) -> bool:
        """Take an answer up again after an event, as servers offer that give events ids (2025-11-25, transports)."""
        pause = PAUSES[0]
        for _ in range(ATTEMPTS):
            await anyio.sleep(pause)
            pause *= 4
            try:
                async with self._link.listen({**self._session.headers, "last-event-id": str(last)}) as reply:
                    if await self._answered(message, key, reply):
                        return True
                    last = reply.last_event or last
            except Unanswered as error:
                if error.status is not None:
                    return False
        return False

    async def _answered(self, message: Mapping[str, Any], key: str | int, reply: Reply) -> bool:
        """Write what comes; whether the answer was there."""
        async for said in reply.messages():
            if "method" in said:
                await self._write(said)
                continue
            if said.get("id") not in (key, None):
                continue
            if message["method"] == "initialize":
                self._session.opened(message, said, reply.session)
            elif message["method"] == "tools/list":
                self._routing.learn(said.get("result"))
            await self._write({**said, "id": key})
            return True
        return False

    # --- to the client ------------------------------------------------------------------------------------------------

    async def _answer_with(self, key: str | int, error: Unanswered) -> None:
        about = error.error if error.error is not None else {"code": CONNECTION_CLOSED, "message": str(error)}
        await self._write({"jsonrpc": "2.0", "id": key, "error": about})

    async def _refuse(self, code: int, sentence: str) -> None:
        await self._write({"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": sentence}})

    async def _write(self, message: Mapping[str, Any]) -> None:
        await self._said.send(to_json(message) + b"\n")

    async def _keep_writing(self) -> None:
        """One task writes: a request that is cancelled leaves no half of a line."""
        async with self._said, self._to_write:
            try:
                async for line in self._to_write:
                    await write_all(self._wire.writes, line)
            except OSError:
                logger.info("The client has gone.")
                self._tasks.cancel_scope.cancel()
