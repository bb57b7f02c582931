"""SocketSession: one WebSocket connection to one agent, from its acceptance to its close.

One task reads frames and starts what they ask for; each ask and each subscription is a task of its own, in the session's group. All
of them write with back-pressure: a client that does not read has its asks in flight wait, and beyond `OPEN` of them nothing more is
begun for it. It translates and decides nothing, as the compiled routes do.
"""

from __future__ import annotations

import asyncio
import logging
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import to_json

from portico.errors import BadRequest, Cancelled, InvalidReply, PorticoError, TooManyAsks, Unauthenticated
from portico.routes import socket_frames as frames
from portico.routes.exchange import PRINCIPAL, RENEW, REQUEST_ID, SCOPES, header, problem_of
from portico.routes.json_lines import JSON_LINES
from portico.routes.reply_hints import hints_of
from portico.runs.call import Call
from portico.runs.event import TERMINAL
from portico.runs.printing import printed
from portico.runs.run_view import reference
from portico.traceparent import well_formed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from starlette.types import Receive, Scope, Send

    from portico.auth.principal import Principal
    from portico.kernel.messages import Message
    from portico.routes.face import Face
    from portico.runs.run import Run

logger = logging.getLogger("portico.http")

OPEN: Final = 100
"""Asks, sends and subscriptions of one connection that may be open at a time."""
SUBPROTOCOL: Final = "portico.v1"
"""What a client offers beside its credential: the answer to a handshake must name something that it has offered."""
LAST_WORD: Final = 1.0
"""Seconds that the close may take, where the server does not wait for anything any more."""

# RFC 6455 §7.4.1
GOING_AWAY: Final = 1001
UNSUPPORTED: Final = 1003
POLICY: Final = 1008
INTERNAL: Final = 1011


class _Work:
    """Something that was begun for the client, and has not ended."""

    __slots__ = ("call", "dropped", "task")

    def __init__(self, call: Call | None) -> None:
        self.call = call
        """What is asked or sent; None for a subscription."""
        self.dropped = False
        """Whether its client, or the drain, has ended it: that is told, where a connection that is lost is not."""
        self.task: asyncio.Task[None] | None = None

    def drop(self) -> None:
        """End it, and tell."""
        self.dropped = True
        if self.call is not None and self.call.run is not None:
            self.call.run.cancel("Its caller cancelled it.")
        elif self.task is not None:
            self.task.cancel()


class SocketSession:
    """One connection.

    Args:
        scope: its handshake.
        receive: from the client.
        send: to the client.
        face: of which gateway.
        agent: the name of an exposed agent.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, face: Face, agent: str) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._face, self._agent = face, agent
        self._work: dict[str | int, _Work] = {}
        self._draining = False
        self._over: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def serve(self) -> None:
        """Accept the connection, and serve it until its client leaves, or the gateway drains and what is in flight is answered."""
        offered: list[str] = self._scope.get("subprotocols", [])
        chosen = SUBPROTOCOL if SUBPROTOCOL in offered else None  # a browser that offers some wants one of them
        await self._send({"type": "websocket.accept", "subprotocol": chosen})
        self._face.sockets.add(self)
        if self._face.drained.is_set():
            self.drain()
        code: int | None = INTERNAL
        try:
            code = await self._served()
        except asyncio.CancelledError:  # what outlives the drain is cancelled by the server
            code = GOING_AWAY
        except Exception:  # the border of this face
            logger.exception("the connection %s failed", self._scope.get(REQUEST_ID))
        finally:
            self._face.sockets.discard(self)
            if code is not None:
                await self._close(code)

    def drain(self) -> None:
        """Take nothing new, end the subscriptions, and close when the asks are answered."""
        self._draining = True
        for work in list(self._work.values()):
            if work.call is None:
                work.drop()
        self._close_when_idle()

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _served(self) -> int | None:
        """Returns the code to close with; None where the client has left."""
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(self._read(group))
            try:
                return await self._over
            finally:
                reader.cancel()
                for work in self._work.values():
                    if work.task is not None:
                        work.task.cancel()

    async def _read(self, group: asyncio.TaskGroup) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self._end(None)
                return
            text: str | None = message.get("text")
            if text is None:
                self._end(UNSUPPORTED)
                return
            await self._take(text, group)

    async def _take(self, text: str, group: asyncio.TaskGroup) -> None:
        name: str | int | None = None
        try:
            value = frames.parsed(text)
            name = frames.id_in(value)
            frame = frames.read(value)
            if isinstance(frame, frames.Ask | frames.Send | frames.Subscribe):
                await self._renew()
            await self._do(frame, group)
        except Unauthenticated as error:
            await self._tell_error(name, error)
            self._end(POLICY)
        except PorticoError as error:
            await self._tell_error(name, error)

    async def _renew(self) -> None:
        """Who opened the connection must still be who calls. Raises `Unauthenticated`, `AuthUnavailable`."""
        renew: Callable[[], Awaitable[Principal]] | None = self._scope.get(RENEW)
        if renew is not None:
            who = await renew()
            self._scope[PRINCIPAL], self._scope[SCOPES] = who.name, who.scopes

    async def _do(self, frame: frames.SocketFrame, group: asyncio.TaskGroup) -> None:
        if isinstance(frame, frames.Ping):
            await self._tell(frame.id, "pong")
        elif isinstance(frame, frames.Cancel | frames.Unsubscribe):
            self._drop(frame)
        elif isinstance(frame, frames.Ask):
            call = self._call(frame, self._face.request_timeout)
            self._begin(frame, call, self._ask(frame, call), group)
        elif isinstance(frame, frames.Send):
            call = self._call(frame, self._face.run_timeout)
            self._begin(frame, call, self._submit(frame, call), group)
        elif isinstance(frame, frames.Subscribe):
            self._begin(frame, None, self._follow(frame), group)

    def _drop(self, frame: frames.Cancel | frames.Unsubscribe) -> None:
        work = self._work.get(frame.id)
        subscription = isinstance(frame, frames.Unsubscribe)
        if work is None or (work.call is None) != subscription:
            kind = "subscription" if subscription else "ask in flight"
            raise BadRequest(f"This connection has no {kind} with the id {frame.id!r}: it has ended, or there never was one.")
        work.drop()

    def _call(self, frame: frames.Ask | frames.Send, limit: float) -> Call:
        scope = self._scope
        client = scope.get("client")
        return Call(
            self._face.dispatcher.catalogue.find(self._agent, frame.operation),
            frame.payload,
            one_way=isinstance(frame, frames.Send),
            timeout=limit if frame.timeout is None else min(frame.timeout, limit),
            principal=scope.get(PRINCIPAL),
            scopes=scope.get(SCOPES),
            address=client[0] if client else None,
            face="websocket",
            request_id=scope.get(REQUEST_ID),
            traceparent=well_formed(frame.traceparent) or well_formed(header(scope, b"traceparent")),
            idempotency_key=frame.idempotency_key,
        )

    # --- working ------------------------------------------------------------------------------------------------------

    def _begin(
        self, frame: frames.SocketFrame, call: Call | None, coroutine: Coroutine[Any, Any, None], group: asyncio.TaskGroup
    ) -> None:
        """Raises `TooManyAsks`, `BadRequest`."""
        error: PorticoError | None = None
        if frame.id in self._work:
            error = BadRequest(f"The id {frame.id!r} is in use on this connection: choose another.")
        elif len(self._work) >= OPEN:
            error = TooManyAsks(OPEN)
        if error is not None:
            coroutine.close()
            raise error
        work = self._work[frame.id] = _Work(call)
        work.task = group.create_task(self._see_through(frame.id, work, coroutine))

    async def _see_through(self, name: str | int, work: _Work, coroutine: Coroutine[Any, Any, None]) -> None:
        error: Exception | None = None
        try:
            await coroutine
        except asyncio.CancelledError:
            if not work.dropped:
                raise
            if work.call is not None:
                error = Cancelled("Its caller cancelled it.")
        except PorticoError as one:
            error = one
        except Exception as one:  # the border of this face: the session goes on
            logger.exception("a frame of the connection %s failed", self._scope.get(REQUEST_ID))
            error = one
        finally:
            del self._work[name]
        run = work.call.run if work.call is not None else None
        if error is not None:
            await self._tell_error(name, error, run.run_id if run is not None else None)
        elif work.dropped and work.call is None:
            await self._tell(name, "end", **({"draining": True} if self._draining else {}))
        self._close_when_idle()

    async def _ask(self, frame: frames.Ask, call: Call) -> None:
        dispatcher = self._face.dispatcher
        stored = call.idempotency_key is not None
        if not stored and not frame.stream:
            await self._tell_result(frame, call, await dispatcher.ask(call))
            return
        run = await dispatcher.submit(call) if stored else await dispatcher.start(call)
        try:
            if frame.stream:
                await self._tell(frame.id, "accepted", **reference(run))
                await self._tell_events(frame.id, run, 0, to_the_last=False)
            reply = await run.outcome()
        except asyncio.CancelledError:
            if not stored:
                run.cancel("Its caller went away.")
            raise
        await self._tell_result(frame, call, reply)

    async def _submit(self, frame: frames.Send, call: Call) -> None:
        run = await self._face.dispatcher.submit(call)
        await self._tell(frame.id, "accepted", **reference(run), **({"replayed": True} if call.replayed else {}))

    async def _follow(self, frame: frames.Subscribe) -> None:
        run = await self._face.dispatcher.book.find(frame.run_id, self._scope.get(PRINCIPAL))
        last = await self._tell_events(frame.id, run, frame.after, to_the_last=True)
        await self._tell(frame.id, "end", last_event_id=last)

    # --- writing ------------------------------------------------------------------------------------------------------

    async def _tell(self, name: str | int | None, kind: str, **about: Any) -> None:
        await self._write(printed({"id": name, "type": kind, **about}))

    async def _tell_error(self, name: str | int | None, error: Exception, run_id: str | None = None) -> None:
        retry_after: float | None = getattr(error, "retry_after", None)
        about = {"retry_after": retry_after} if retry_after is not None else {}
        await self._tell(name, "error", problem=problem_of(self._scope, error, run_id), **about)

    async def _tell_events(self, name: str | int, run: Run, after: int, *, to_the_last: bool) -> int:
        """A run's events as they come. Returns the number of the last. Without the terminal one, where a result follows."""
        form, last = self._face.event_forms[JSON_LINES[0]], after
        head = b'{"id":%s,"type":"event","event":' % to_json(name)
        async for event in run.follow(after):
            if event.seq > last + 1:
                await self._write(printed({"id": name, "type": "gap", "from": last + 1, "to": event.seq - 1}))
            last = event.seq
            if event.type not in TERMINAL or run.error is None:
                line = form.event(event)
            else:
                line = form.ending(event, problem_of(self._scope, run.error, run.run_id))
            if to_the_last or event.type not in TERMINAL:
                await self._write(head + line.rstrip(b"\n") + b"}")
        return last

    async def _tell_result(self, frame: frames.Ask, call: Call, reply: Message) -> None:
        about: dict[str, Any] = {"attempt": reply.attempt}
        if call.run is not None:
            about["run_id"] = call.run.run_id
        if call.replayed:
            about["replayed"] = True
        if reply.meta is not None:
            about["status"], _, media_type = hints_of(reply.meta, call.endpoint)
            if media_type is not None:
                about["media_type"] = media_type
        payload = reply.payload
        if isinstance(payload, bytes):
            about["encoding"], payload = "base64", b64encode(payload).decode()
        try:
            text = to_json({"id": frame.id, "type": "result", **about, "payload": payload}, inf_nan_mode="null")
        except ValueError as error:
            raise InvalidReply.not_json(call.endpoint.agent, call.endpoint.operation.name, error) from error
        await self._write(text)

    async def _write(self, text: bytes) -> None:
        try:
            await self._send({"type": "websocket.send", "text": text.decode()})
        except OSError:  # as ASGI says it: the client has left
            self._end(None)

    # --- ending -------------------------------------------------------------------------------------------------------

    def _close_when_idle(self) -> None:
        if self._draining and not self._work:
            self._end(GOING_AWAY)

    def _end(self, code: int | None) -> None:
        if not self._over.done():
            self._over.set_result(code)

    async def _close(self, code: int) -> None:
        try:
            async with asyncio.timeout(LAST_WORD):
                await self._send({"type": "websocket.close", "code": code})
        except (OSError, TimeoutError):
            pass
