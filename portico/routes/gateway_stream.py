"""GatewayStream: what happens in the whole gateway as a response that stays open, for one admin who watches.

Above: `gateway_events.py`. Below: the chronicle, which all who watch read; a stream holds nothing but its place in it. Who reads
too slowly to keep it, is told of a gap and goes on with what is new.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from portico.auth.principal import ADMIN
from portico.errors import InsufficientScope
from portico.routes.exchange import PRINCIPAL, RENEW, SCOPES
from portico.routes.open_response import CHUNK, DRAINING, GAP, OpenResponse
from portico.runs.call import permits
from portico.runs.printing import printed
from portico.runs.run_view import rfc3339
from portico.version import __version__

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from starlette.types import Scope

    from portico.auth.principal import Principal
    from portico.routes.event_form import EventForm
    from portico.routes.face import Face
    from portico.routes.newsroom import Newsroom
    from portico.runs.chronicle import Entry

RENEW_EVERY: Final = 5.0
"""Seconds after which is asked again whether who watches still may: a key can be revoked, a token expires."""
HELLO: Final = "hello"


class GatewayStream(OpenResponse):
    """One response.

    Args:
        scope: the request.
        face: of which gateway.
        newsroom: who writes what is told.
        form: how it looks.
        topics: what is told.
        last: the life and the number of the last event that the client has seen; None for one that begins.
    """

    __slots__ = ("_last", "_newsroom", "_renew_at", "_resumes", "_topics")

    def __init__(
        self,
        scope: Scope,
        face: Face,
        newsroom: Newsroom,
        form: EventForm,
        topics: Collection[str],
        last: tuple[str, int] | None = None,
    ) -> None:
        super().__init__(scope, face, form)
        self._newsroom = newsroom
        self._topics = frozenset(topics)
        self._resumes = last
        self._last = 0
        self._renew_at = 0.0

    async def _before(self) -> None:
        self._newsroom.enter(self)
        self._renew_at = asyncio.get_running_loop().time() + RENEW_EVERY

    async def _tell(self) -> None:
        try:
            await self._begin([])
            await self._write(self._opening())
            while not self._left:
                await self._renew()
                entries = self._newsroom.chronicle.after(self._last)
                if entries is None:
                    await self._write(self._gap(self._last))
                elif entries:
                    await self._write_all(entries)
                elif self._face.drained.is_set():
                    await self._end(self._form.note(DRAINING, {"last_event_id": self._id(self._last)}))
                    return
                elif self._beat:
                    await self._write(self._form.ping)
                else:
                    await self._rung()
        finally:
            self._newsroom.leave(self)

    def _opening(self) -> bytes:
        """Who speaks; and where the client was here before, whether something is missing."""
        chronicle = self._newsroom.chronicle
        about = {"life": chronicle.life, "version": __version__, "started_at": rfc3339(self._newsroom.started)}
        life, number = self._resumes or (chronicle.life, chronicle.last)
        known = life == chronicle.life and number <= chronicle.last
        complete = known and chronicle.after(number) is not None
        self._last = number if complete else chronicle.last
        text = self._numbered(HELLO, self._last, about)
        return text if complete else text + self._gap(number if known else None)

    def _gap(self, last: int | None) -> bytes:
        """What comes after `last` is missing; None for everything. Goes on with what is new."""
        self._last = self._newsroom.chronicle.last
        return self._numbered(GAP, self._last, {"from": None if last is None else last + 1, "to": self._last})

    def _numbered(self, name: str, number: int, data: Any) -> bytes:
        return self._form.numbered(self._id(number), name, printed(data))

    def _id(self, number: int) -> str:
        return f"{self._newsroom.chronicle.life}-{number}"

    async def _write_all(self, entries: Sequence[Entry]) -> None:
        form, topics, text = self._form, self._topics, b""
        for entry in entries:
            self._last = entry.number
            if entry.topic in topics:
                text += form.numbered(self._id(entry.number), entry.name, entry.text)
                if len(text) > CHUNK:
                    await self._write(text)
                    text = b""
                    if self._left:
                        return
        if text:
            await self._write(text)

    async def _rung(self) -> None:
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    async def _renew(self) -> None:
        """Who opened it must still be an admin. Raises `Unauthenticated`, `InsufficientScope`, `AuthUnavailable`."""
        renew: Callable[[], Awaitable[Principal]] | None = self._scope.get(RENEW)
        now = asyncio.get_running_loop().time()
        if renew is None or now < self._renew_at:
            return
        self._renew_at = now + RENEW_EVERY
        who = await renew()
        self._scope[PRINCIPAL], self._scope[SCOPES] = who.name, who.scopes
        if not permits(who.scopes, frozenset({ADMIN})):
            raise InsufficientScope("What happens in the gateway", [ADMIN])
