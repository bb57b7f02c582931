"""Sessions: those of the old era, each with its owner, and how many one caller may have.

Above: `http.py`. Below: the SDK's transport and its loop, one of each per session. Whoever opens more sessions than it may loses
its own that was idle for longest, nobody else's; where all of its own are in use, it is refused. A session that nobody uses ends.
"""

from __future__ import annotations

import logging
import secrets
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
from mcp.server.connection import Connection
from mcp.server.runner import serve_connection
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER, StreamableHTTPServerTransport
from mcp.server.transport_security import RequestBodyLimitMiddleware
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp.types import INTERNAL_ERROR, INVALID_REQUEST
from pydantic_core import from_json, to_json
from starlette.responses import Response

from portico.mcp_bridge.serving.back_channel import Questions
from portico.mcp_bridge.serving.caller import PRINCIPAL
from portico.mcp_bridge.serving.log_levels import is_told_logs
from portico.mcp_bridge.serving.plain_call import questions_for

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import TaskGroup, TaskStatus
    from mcp.server.lowlevel import Server
    from mcp.server.transport_security import TransportSecuritySettings
    from mcp.shared.transport_context import TransportContext
    from starlette.types import Message, Receive, Scope, Send

    from portico.mcp_bridge.serving.direct_call import DirectCall
    from portico.mcp_bridge.serving.options import ServingOptions

logger = logging.getLogger("portico.mcp")

SESSION_HEADER: Final = MCP_SESSION_ID_HEADER.encode("ascii")
SWEEP: Final = 15.0
"""Seconds between two looks for those."""
SETTLED: Final = 30.0
"""Seconds that a session must have been idle to make room for another caller's."""
RETRY_AFTER: Final = 30
"""Seconds after which a refused caller may try again."""


class Session:
    """One session."""

    __slots__ = ("_calls", "_kinds", "_questions", "connection", "id", "in_use", "owner", "payer", "transport", "used")

    def __init__(self, session_id: str, owner: str | None, payer: str | None, security: TransportSecuritySettings) -> None:
        self.id = session_id
        self.owner = owner
        """The principal that opened it. For everybody else it does not exist."""
        self.payer = payer
        """Among whose sessions it counts: the principal's, or where there is none the address's."""
        self.transport = StreamableHTTPServerTransport(mcp_session_id=session_id, security_settings=security)
        self.connection: Connection | None = None
        self.in_use = 0
        """Requests in flight; while there is one, it does not end of itself."""
        self.used = anyio.current_time()
        """When the last one began or ended."""
        self._calls: dict[int | str, DirectCall] | None = None  # thousands of sessions may never make a call
        self._questions: Questions | None = None
        self._kinds: tuple[frozenset[str] | None] | None = None

    @property
    def calls(self) -> dict[int | str, DirectCall]:
        """Those in flight that are answered directly, by the ids of their requests."""
        if self._calls is None:
            self._calls = {}
        return self._calls

    def in_flight(self) -> list[DirectCall]:
        """The same, as they are now."""
        return list(self._calls.values()) if self._calls else []

    @property
    def questions(self) -> Questions:
        """What its client is asked while such a call is handled."""
        if self._questions is None:
            self._questions = Questions()
        return self._questions

    @property
    def answerable(self) -> frozenset[str] | None:
        """Which kinds of questions its client answers; None where its calls are not to be answered directly.

        That is before it is initialised, and where it wants to be told of what is logged.
        """
        connection = self.connection
        if connection is None or not connection.initialize_accepted or is_told_logs(connection):
            return None
        if self._kinds is None:
            self._kinds = (questions_for(connection.client_capabilities),)
        return self._kinds[0]


class Sessions:
    """All of one server.

    Args:
        server: what answers in them.
        options: how many there may be, and how large a request.
        security: which hosts and origins the SDK's transport serves.
    """

    def __init__(self, server: Server[Any], options: ServingOptions, security: TransportSecuritySettings) -> None:
        self._server = server
        self._options = options
        self._security = security
        self._sessions: dict[str, Session] = {}  # the least recently used first
        self._of: dict[str | None, dict[str, Session]] = {}  # by payer, in the same order
        self._tasks: TaskGroup | None = None
        self._limited = RequestBodyLimitMiddleware(self._handle, options.body_limit)

    def __len__(self) -> int:
        return len(self._sessions)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Serve for as long as it is entered; then every session ends."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self._end_idle_ones)
            try:
                yield
            finally:
                self._tasks = None
                tasks.cancel_scope.cancel()
                self._sessions.clear()
                self._of.clear()

    def find(self, session_id: str, principal: str | None) -> Session | None:
        """The session of that id; None for everybody but its owner."""
        session = self._sessions.get(session_id)
        return session if session is not None and session.owner == principal else None

    def begin(self, session: Session) -> None:
        """A request of it begins. Call `end` afterwards."""
        session.in_use += 1
        self._touch(session)

    def end(self, session: Session) -> None:
        """A request of it has ended."""
        session.in_use -= 1
        self._touch(session)

    def _touch(self, session: Session) -> None:
        if self._sessions.pop(session.id, None) is not None:  # it may have ended meanwhile
            session.used = anyio.current_time()
            self._sessions[session.id] = session
            of = self._of[session.payer]
            if len(of) > 1:
                of[session.id] = of.pop(session.id)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request of the old era: by its session, or it opens one."""
        await self._limited(scope, receive, send)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = next((value for name, value in scope["headers"] if name == SESSION_HEADER), None)
        if given is None:
            await self._open(scope, receive, send)
            return
        session = self.find(given.decode("latin-1"), scope.get(PRINCIPAL))
        if session is None:
            await _refusal("Session not found", HTTPStatus.NOT_FOUND)(scope, receive, send)
            return
        self.begin(session)
        try:
            await session.transport.handle_request(scope, receive, send)
        finally:
            self.end(session)
        if session.transport.is_terminated:
            await self._discard(session)

    # --- opening ------------------------------------------------------------------------------------------------------

    async def _open(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Only `initialize` opens a session; the transport refuses anything else that names none."""
        opening = await receive()
        principal: str | None = scope.get(PRINCIPAL)
        client = scope.get("client")
        session = Session(secrets.token_hex(16), principal, principal or (client[0] if client else None), self._security)
        kept = scope["method"] == "POST" and _initializes(opening.get("body", b""))
        if kept:
            refusal = await self._make_room(session.payer)
            if refusal is not None:
                await refusal(scope, receive, send)
                return
            self._sessions[session.id] = session
            self._of.setdefault(session.payer, {})[session.id] = session
        first: list[Message] = [opening]

        async def replayed() -> Message:
            return first.pop() if first else await receive()

        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        session.in_use += 1
        try:
            tasks = self._tasks
            if tasks is None:
                raise RuntimeError("the sessions are not running")
            await tasks.start(self._run, session)
            await session.transport.handle_request(scope, replayed, watched)
        finally:
            self.end(session)
            if not kept or not HTTPStatus.OK <= status < HTTPStatus.BAD_REQUEST:
                await self._discard(session)

    async def _make_room(self, payer: str | None) -> Response | None:
        """Let one more be opened by this caller, or say why not."""
        own = self._of.get(payer, {})
        if len(own) >= self._options.sessions_per_caller:
            idle = next((session for session in own.values() if not session.in_use), None)
            if idle is None:
                return _refusal("Too many open sessions of yours", HTTPStatus.TOO_MANY_REQUESTS)
            logger.info("a caller has too many MCP sessions: the one that was idle for longest ends")
            await self._discard(idle)
        elif len(self._sessions) >= self._options.max_sessions:
            oldest = next((session for session in self._sessions.values() if not session.in_use), None)
            if oldest is None or anyio.current_time() - oldest.used < SETTLED:
                logger.warning("an MCP session is refused: %d are open", len(self._sessions))
                return _refusal("Too many open sessions", HTTPStatus.SERVICE_UNAVAILABLE)
            await self._discard(oldest)
        return None

    # --- one session --------------------------------------------------------------------------------------------------

    async def _run(self, session: Session, *, task_status: TaskStatus[None]) -> None:
        """Its loop, as the SDK's manager has it, on a connection that the direct path can look at."""
        try:
            async with session.transport.connect() as (reads, writes):
                dispatcher: JSONRPCDispatcher[TransportContext] = JSONRPCDispatcher(
                    reads, writes, inline_methods=frozenset({"initialize"})
                )
                session.connection = connection = Connection.for_loop(dispatcher, session_id=session.id)
                task_status.started()
                await serve_connection(self._server, dispatcher, connection=connection, lifespan_state={})
        except Exception:
            logger.exception("an MCP session failed")
        finally:
            await self._discard(session)

    async def _discard(self, session: Session) -> None:
        """It ends. Its id is unknown from now on."""
        self._sessions.pop(session.id, None)
        own = self._of.get(session.payer)
        if own is not None and own.pop(session.id, None) is not None and not own:
            del self._of[session.payer]
        for call in session.in_flight():
            call.close()
        if not session.transport.is_terminated:
            with anyio.CancelScope(shield=True):
                await session.transport.terminate()

    async def _end_idle_ones(self) -> None:
        while True:
            await anyio.sleep(min(SWEEP, self._options.session_idle_timeout))
            since = anyio.current_time() - self._options.session_idle_timeout
            for session in list(self._sessions.values()):
                if session.used > since:
                    break
                if not session.in_use:
                    await self._discard(session)


def _initializes(body: bytes) -> bool:
    try:
        message: Any = from_json(body)
    except ValueError:
        return False
    return isinstance(message, dict) and cast("dict[str, Any]", message).get("method") == "initialize"


def _refusal(message: str, status: HTTPStatus) -> Response:
    """A JSON-RPC error for a request that reaches no session, as the SDK's manager words it."""
    server_fault = status == HTTPStatus.SERVICE_UNAVAILABLE
    error = {"code": INTERNAL_ERROR if server_fault else INVALID_REQUEST, "message": message}
    later = status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)
    headers = {"retry-after": str(RETRY_AFTER)} if later else None
    body = to_json({"jsonrpc": "2.0", "id": None, "error": error})
    return Response(body, status_code=status, media_type="application/json", headers=headers)
