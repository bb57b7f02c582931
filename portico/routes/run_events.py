"""RunEvents: `GET /runs/{id}/events`, a run's events as a response that stays open.

It stands beside the compiled routes, in front of FastAPI's machinery, whose frames would be half of what an idle stream holds. Its
documentation is that of the other routes of runs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from fastapi import Request

from portico.errors import MalformedHeader, NotAcceptable, PorticoError
from portico.operations.operation import RouteSpec
from portico.routes.accept import accepted, preferred
from portico.routes.admin import may_admin
from portico.routes.event_stream import EventStream
from portico.routes.exchange import PRINCIPAL, header, respond_with_problem

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from portico.routes.face import Face

_PATH: Final = re.compile(r"/runs/([^/]+)/events")
_EVENT_ID: Final = re.compile(r"[0-9]{1,18}")
"""No run has events beyond that, and a number of any length would be a way to keep the event loop busy."""


class RunEvents:
    """Serves the route."""

    def __init__(self, face: Face) -> None:
        self._face = face
        self.spec = RouteSpec("GET", "/runs/{run_id}/events")

    def find(self, path: str, method: str) -> str | None:
        """The id of the run whose events are asked for; None where the request is for something else."""
        match = _PATH.fullmatch(path) if method == "GET" else None
        return match[1] if match is not None else None

    async def serve(self, scope: Scope, receive: Receive, send: Send, run_id: str) -> None:
        """Answer one request."""
        try:
            stream = await self._stream(scope, run_id)
        except PorticoError as error:
            await respond_with_problem(scope, send, error)
            return
        await stream.serve(receive, send)

    async def _stream(self, scope: Scope, run_id: str) -> EventStream:
        """Raises `UnknownRun`, `MalformedHeader`, `NotAcceptable`."""
        run = await self._face.dispatcher.book.find(run_id, scope.get(PRINCIPAL), everyone=may_admin(Request(scope)))
        last = header(scope, b"last-event-id")
        if last is not None and not _EVENT_ID.fullmatch(last):
            raise MalformedHeader(f"Last-Event-ID is {last!r}: it must be the id of an event of this run.")
        accept, forms = accepted(scope) or "", self._face.event_forms
        form = preferred(accept, tuple(forms))
        if form is None:
            raise NotAcceptable(accept, tuple(forms))
        return EventStream(scope, run, self._face, forms[form], after=int(last or 0))
