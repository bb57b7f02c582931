"""GatewayEvents: `GET /events`, everything that happens in the gateway as it happens, for admins.

It stands beside the compiled routes, as `RunEvents` does: what passes FastAPI's machinery is held by its frames for as long as it
is open. Its documentation is a route that is never reached.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import WithJsonSchema

from portico.errors import (
    ContractViolation,
    InsufficientScope,
    MalformedHeader,
    NotAcceptable,
    PorticoError,
    RouteNotFound,
    TooManyWatchers,
)
from portico.operations.operation import RouteSpec
from portico.routes.accept import accepted, preferred
from portico.routes.address import query_of
from portico.routes.admin import demand_admin
from portico.routes.exchange import header, respond_with_problem
from portico.routes.gateway_stream import GatewayStream
from portico.routes.json_lines import JSON_LINES
from portico.routes.newsroom import TOPICS
from portico.routes.problems import documented
from portico.routes.server_sent_events import EVENT_STREAM

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from portico.routes.face import Face
    from portico.routes.newsroom import Newsroom

PATH: Final = "/events"
DEFAULT_TOPICS: Final = tuple(topic for topic in TOPICS if topic != "audit")
_EVENT_ID: Final = re.compile(r"[A-Za-z0-9]{1,40}-[0-9]{1,18}")
_EXAMPLE_ID: Final = "4f1d0c9a2b3e-17"
_EXAMPLE: Final = f'event: process.crashed\nid: {_EXAMPLE_ID}\ndata: {{"at":"2026-01-31T09:30:00Z","name":"flaky"}}\n\n'


class GatewayEvents:
    """Serves the route, where `face` has a newsroom."""

    def __init__(self, face: Face) -> None:
        self._face = face
        self.spec = RouteSpec("GET", PATH)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            stream = self._stream(scope)
            await stream.serve(receive, send)
        except PorticoError as error:  # before anything was sent: later ones are told by the stream
            await respond_with_problem(scope, send, error)

    def _stream(self, scope: Scope) -> GatewayStream:
        """Raises what `documented` says of the route."""
        demand_admin(Request(scope), "What happens in the gateway")
        newsroom: Newsroom | None = self._face.newsroom
        if newsroom is None:
            raise RouteNotFound(PATH)
        resumes = _resumed(header(scope, b"last-event-id"))
        accept, forms = accepted(scope) or "", self._face.event_forms
        form = preferred(accept, tuple(forms))
        if form is None:
            raise NotAcceptable(accept, tuple(forms))
        return GatewayStream(scope, self._face, newsroom, forms[form], _topics(scope), resumes)


def _resumed(last: str | None) -> tuple[str, int] | None:
    """The life of a gateway, and the number of the event, after which to go on. Raises `MalformedHeader`."""
    if last is None:
        return None
    if _EVENT_ID.fullmatch(last) is None:
        raise MalformedHeader(f"Last-Event-ID is {last!r}: it must be the id of an event of a gateway.")
    life, _, number = last.partition("-")
    return life, int(number)


def _topics(scope: Scope) -> tuple[str, ...]:
    """Raises `ContractViolation`, `MalformedAddress`."""
    said = [value for name, value in query_of(scope["query_string"]) if name == "topics"]
    if not said:
        return DEFAULT_TOPICS
    topics = tuple(topic.strip() for text in said for topic in text.split(","))
    unknown = [topic for topic in topics if topic not in TOPICS]
    if unknown:
        fault = {"path": "/topics", "message": f"{unknown[0]!r} is none of {', '.join(TOPICS)}", "type": "enum", "in": "query"}
        raise ContractViolation(f"GET {PATH}", [fault])
    return topics


class _Events(Response):
    """What FastAPI believes to return."""

    media_type = EVENT_STREAM


_STREAMS: Final[dict[str, Any]] = {
    "description": "What happens.",
    "content": {
        EVENT_STREAM: {"schema": {"type": "string"}, "example": _EXAMPLE},
        JSON_LINES[0]: {"schema": {"type": "string"}},
    },
}
TopicList = Annotated[str | None, WithJsonSchema({"type": "string", "pattern": f"^({'|'.join(TOPICS)})(,({'|'.join(TOPICS)}))*$"})]
LastId = Annotated[str | None, WithJsonSchema({"type": "string", "pattern": f"^{_EVENT_ID.pattern}$", "examples": [_EXAMPLE_ID]})]


def gateway_events_router() -> APIRouter:
    """The documentation of the route."""
    router = APIRouter(tags=["agents"])

    @router.get(
        PATH,
        status_code=200,
        summary="Watch the gateway",
        operation_id="watch_gateway",
        response_class=_Events,
        response_model=None,
        responses={
            200: _STREAMS,
            **documented(InsufficientScope, RouteNotFound, MalformedHeader, NotAcceptable, ContractViolation, TooManyWatchers),
        },
    )
    async def events(  # pyright: ignore[reportUnusedFunction]  # each is a parameter
        topics: Annotated[
            TopicList, Query(description=f"Of {', '.join(TOPICS)}; {', '.join(DEFAULT_TOPICS)} unless given.")
        ] = None,
        last_event_id: Annotated[LastId, Header(description="Only what came after this event.")] = None,
    ) -> None:
        """Everything that happens in the gateway, as it happens: processes, stored runs, and figures once a second.

        It begins with `hello`. `Last-Event-ID` goes on where a connection was lost; where something is missing, there is a `gap`,
        and what was read before must be read anew. Needs the scope `admin`; without authentication it is for this machine only.
        """
        # `GatewayEvents` answers, before a request comes as far as this.

    return router
