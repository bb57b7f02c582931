"""OpenResponse: a response that stays open, in any form of events, with heartbeats, until it is over or its client leaves.

One loop in the request's own task, woken by whatever happens: something to tell, a heartbeat that is due, the drain, a client that
left. It writes only as fast as its client reads. Above: the stream of a run, and that of the whole gateway. Below: `OpenStreams`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from portico.errors import Interrupted, PorticoError
from portico.routes.disconnects import until_left
from portico.routes.exchange import problem_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Receive, Scope, Send

    from portico.routes.event_form import EventForm
    from portico.routes.face import Face

logger = logging.getLogger("portico.http")

GAP: Final = "gap"
"""Something is missing: `from`, `to`."""
DRAINING: Final = "stream.draining"
"""The gateway stops: `last_event_id`."""
ERROR: Final = "error"
"""The end of a response that went wrong: the problem, as a plain one has it."""

CHUNK: Final = 64 * 1024
"""Bytes after which what is ready is written, before more of it is printed."""


class OpenResponse:
    """One response.

    Args:
        scope: the request.
        face: of which gateway.
        form: how its events look.
        run_id: the run that it is about, for problems.
    """

    __slots__ = ("_beat", "_begun", "_face", "_form", "_left", "_run_id", "_scope", "_send", "_sending", "_waiter")

    def __init__(self, scope: Scope, face: Face, form: EventForm, run_id: str | None = None) -> None:
        self._scope, self._face, self._form, self._run_id = scope, face, form, run_id
        self._beat = self._left = self._begun = self._sending = False
        self._waiter: asyncio.Future[None] | None = None
        self._send: Send | None = None

    async def serve(self, receive: Receive, send: Send) -> None:
        """Send it, until it is over, or until the client leaves or the gateway drains.

        Raises:
            PorticoError: what went wrong before anything was sent.
            ClientLeftError: nothing was sent yet, and there is nobody any more to send it to.
        """
        self._send = send
        listener = self._face.dispatcher.runtime.router.start_task(self._listen(receive), "stream")
        try:
            await self._before()
            self._face.streams.wrote(self)
            await self._tell_or_say_why_not()
        finally:
            self._face.streams.closed(self)
            listener.cancel()

    def ring(self) -> None:
        """See `OpenStreams`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def beat(self) -> None:
        """See `OpenStreams`."""
        self._beat = True
        self.ring()

    # --- what each of them does ---------------------------------------------------------------------------------------

    async def _before(self) -> None:
        """Called before the head is sent. What it raises is a plain problem."""

    async def _tell(self) -> None:
        """Send the head and everything else."""
        raise NotImplementedError

    def _on_leave(self) -> None:
        """The client has left."""

    # --- what all of them do ------------------------------------------------------------------------------------------

    async def _listen(self, receive: Receive) -> None:
        await until_left(receive)
        self._left = True
        self._on_leave()
        self.ring()

    async def _tell_or_say_why_not(self) -> None:
        """Everything; what goes wrong on the way is the last that is told."""
        try:
            await self._tell()
        except asyncio.CancelledError:
            if not self._begun or self._sending:
                raise  # a client that does not read would not read this either
            await self._end(self._error(Interrupted()))
        except Exception as error:
            if not self._begun:
                raise
            if not isinstance(error, PorticoError):
                logger.exception("the stream %s broke off", self._run_id or self._scope.get("path"))
            await self._end(self._error(error))

    async def _begin(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        assert self._send is not None  # noqa: S101  # `serve` has set it
        own = [
            (b"content-type", f"{self._form.media_type}; charset=utf-8".encode()),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
        ]
        self._begun = True
        await self._send({"type": "http.response.start", "status": 200, "headers": [*own, *headers]})

    def _error(self, error: BaseException) -> bytes:
        return self._form.note(ERROR, problem_of(self._scope, error, self._run_id))

    async def _write(self, chunk: bytes, *, more: bool = True) -> None:
        assert self._send is not None  # noqa: S101  # `serve` has set it
        self._beat, self._sending = False, True
        message: dict[str, Any] = {"type": "http.response.body", "body": chunk, "more_body": more}
        await self._send(message)
        self._sending = False
        self._face.streams.wrote(self)

    async def _end(self, chunk: bytes = b"") -> None:
        await self._write(chunk, more=False)
