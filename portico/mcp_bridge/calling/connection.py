"""Connection: what the process that owns an external server shares with everybody who calls its tools.

It outlives every single connection: callers wait here while the owner connects anew. Above: `upstream.py`, the one owner, and
`toolset.py`, the callers. A call goes straight from its caller's task to the client (the SDK's, or `direct.py`), many at once; no
mailbox in between.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from mcp.shared.exceptions import MCPError
from mcp.types import CONNECTION_CLOSED, InputRequiredResult
from pydantic import ValidationError

from portico.errors import MCPServerBusy, MCPServerUnavailable, MCPToolError, PorticoError
from portico.kernel.current import current
from portico.mcp_bridge.calling.admission import Admission
from portico.mcp_bridge.calling.call_in_hand import CallsInHand
from portico.mcp_bridge.calling.direct import DeclinedError
from portico.mcp_bridge.calling.envelope import Envelope
from portico.mcp_bridge.calling.figures import OK, Figures
from portico.mcp_bridge.calling.input_rounds import go_on
from portico.mcp_bridge.calling.remote import was_not_sent
from portico.mcp_bridge.calling.server_requests import ServerRequests
from portico.mcp_bridge.calling.turnstile import FullError, Turnstile
from portico.mcp_bridge.calling.wire import BrokenWireError, NoAnswerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mcp import Client
    from mcp.types import CallToolResult, Tool

    from portico.kernel.inbox import Inbox
    from portico.kernel.protocols import Exchange
    from portico.mcp_bridge.calling.direct import DirectClient
    from portico.mcp_bridge.calling.remote_tool import RemoteTool
    from portico.mcp_bridge.config import MCPServerConfig

LONGEST_REASON: Final = 300
"""Characters of what is told of an answer that cannot be used."""
PATIENCE: Final = 3
"""How many attempts to connect may fail while a call waits, before it gives up."""


class ConnectionStatus(StrEnum):
    """Where a connection is."""

    CONNECTED = "connected"
    """Calls go out."""
    CONNECTING = "connecting"
    """An attempt is under way."""
    DOWN = "down"
    """Not connected; the next attempt comes after a pause, or at once when somebody calls."""
    RESTING = "resting"
    """It was lost or failed more often than it may within its window. The next attempt comes after a pause, whoever calls."""


class Signal(Enum):
    """What callers and the protocol tell the owner."""

    STOP = "stop"
    """End the connection for good."""
    CHANGED = "changed"
    """The server's list of tools has changed."""
    WANTED = "wanted"
    """Somebody waits for the connection."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection of that life is gone."""

    life: Life


class Life:
    """One connection from its beginning to its end. The transport ends it; nobody revives it."""

    __slots__ = ("_inbox", "died", "ended", "session_id")

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self.ended: str | None = None
        self.died: Callable[[], str | None] | None = None
        self.session_id: str | None = None
        """Of MCP, where the server has given one."""

    @property
    def alive(self) -> bool:
        """Whether it stands, as far as can be told without asking the server. `died` looks at its process, if it is ours."""
        return self.ended is None and (self.died is None or self.died() is None)

    def end(self, reason: str) -> None:
        """It is gone. Later reasons are ignored."""
        if self.ended is None:
            self.ended = reason
            self._inbox.put(Lost(self))


class Connection:
    """One external server, as the rest of the program sees it."""

    def __init__(self, config: MCPServerConfig) -> None:
        self.config = config
        self._place = _place_of(config)
        self.admission = Admission(config)
        """Which of the server's tools there are."""
        self.calls = CallsInHand()
        """Those that are under way, for what the server asks back."""
        self.requests = ServerRequests(config, self.calls)
        """Who answers that."""
        self._listing: Sequence[Tool] = ()
        self.status = ConnectionStatus.DOWN
        self.last_error: str | None = "it was not started"
        self.era: str | None = None
        self.tools: dict[str, RemoteTool] = {}
        self.listed = False
        self.failed_attempts = 0
        self.waiting = 0
        self.figures = Figures()
        self.next_attempt: float | None = None
        self._turnstile = Turnstile(config.max_calls, config.max_waiting)
        self._client: Client | None = None
        self._direct: DirectClient | None = None
        self._life: Life | None = None
        self._owner: Inbox | None = None
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def name(self) -> str:
        """The server's name."""
        return self.config.name

    def readiness(self) -> dict[str, Any]:
        """What there is to see from outside: JSON-able. While it is down, `error` says why; era and tools are the last known."""
        about: dict[str, Any] = {
            "ready": self.status is ConnectionStatus.CONNECTED,
            "required": self.config.required,
            "connection": self.status.value,
            "era": self.era,
            "tools": sorted(self.tools),
            "calls": {"in_flight": self._turnstile.inside, "waiting": self._turnstile.waiting},
            "reconnects": self.figures.reconnects,
        }
        if self.status is ConnectionStatus.RESTING:
            about["retry_in"] = self.retry_in()
        if self.admission.refused:
            about["refused"] = dict(sorted(self.admission.refused.items()))
        return about if self.last_error is None else {**about, "error": self.last_error}

    def retry_in(self) -> float | None:
        """Seconds until the next attempt, while it is resting."""
        if self.status is not ConnectionStatus.RESTING or self.next_attempt is None:
            return None
        return round(max(0.1, self.next_attempt - asyncio.get_running_loop().time()), 1)

    # --- the owner's side ---------------------------------------------------------------------------------------------

    def begin(self, owner: Inbox) -> None:
        """An owner has taken over."""
        self._owner = owner
        self.failed_attempts = 0
        self.last_error = None
        self.connecting()

    def connecting(self) -> None:
        """An attempt begins."""
        self._set(ConnectionStatus.CONNECTING)

    def up(self, client: Client, life: Life, tools: Sequence[Tool], direct: DirectClient | None = None) -> None:
        """Connected: calls go out, over `direct` where there is one."""
        self._client, self._life, self._direct = client, life, direct
        self.figures.connects += 1
        self.calls.renewed()
        self.era = client.protocol_version
        self.last_error = None
        self.relisted(tools)
        self._set(ConnectionStatus.CONNECTED)

    def relisted(self, tools: Sequence[Tool]) -> None:
        """The server's tools as they are now."""
        self._listing = tools
        self.tools, self.listed = self.admission.admit(tools), True

    def reconsider(self) -> None:
        """Judge the last listing again, where something was approved since."""
        if self.admission.outdated:
            self.relisted(self._listing)

    def leaving(self) -> None:
        """From now on no call goes out over the present connection."""
        self._client = self._life = self._direct = None
        self._set(ConnectionStatus.DOWN)

    def resting(self, seconds: float) -> None:
        """It has failed too often: whoever waits is told so, and no attempt comes before so many seconds have passed."""
        self.next_attempt = asyncio.get_running_loop().time() + seconds
        self._set(ConnectionStatus.RESTING)

    def down(self, reason: str, *, attempt_failed: bool) -> None:
        """Not connected, for this reason."""
        self._client = self._life = self._direct = None
        self.last_error = reason
        self.failed_attempts += attempt_failed
        self._set(ConnectionStatus.DOWN)

    def end(self) -> None:
        """The owner has ended: nobody will connect."""
        self._owner = None
        self.down("it was stopped", attempt_failed=False)

    # --- the callers' side --------------------------------------------------------------------------------------------

    async def attempted(self) -> bool:
        """Wait for a connection, or for the first attempt that fails. Whether it is connected."""
        before = self.failed_attempts
        while self.status is not ConnectionStatus.CONNECTED and self.failed_attempts == before and self._owner is not None:
            await self._changed()
        return self.status is ConnectionStatus.CONNECTED

    async def ready(self) -> None:
        """Wait for a connection, as long as a call may take. Raises `MCPServerUnavailable`."""
        try:
            async with asyncio.timeout(self.config.timeout):
                await self._standing()
        except TimeoutError:
            raise self._unavailable() from None

    async def call(self, tool: RemoteTool, arguments: dict[str, Any]) -> CallToolResult:
        """Call a tool, from the caller's own task. The deadline of the message in hand cancels it, and so the tool.

        A call that waited for a new connection is sent when it is there. One that was under way when the connection broke is sent
        again, once, where it cannot have taken effect or where the tool says that twice does no harm.

        Raises:
            MCPServerBusy: too many wait for their turn already.
            MCPServerUnavailable: not connected, or the connection broke and nobody knows how far the call came.
            MCPToolError: the server answered with an error, or not in time, or with what is no answer.
        """
        began, outcome = time.monotonic(), "cancelled"
        try:
            result = await self._in_time(tool, arguments)
        except PorticoError as error:
            outcome = error.slug
            raise
        else:
            outcome = MCPToolError.slug if result.is_error else OK
            return result
        finally:
            in_hand = current.get()
            self.figures.ended(outcome, time.monotonic() - began, None if in_hand is None else in_hand.traceparent)

    async def _in_time(self, tool: RemoteTool, arguments: dict[str, Any]) -> CallToolResult:
        envelope, admitted = Envelope(), False
        try:
            with self.calls.opened(tool.uri) as call:
                async with asyncio.timeout(self.config.timeout) as call.limit, self._turnstile:
                    admitted = True
                    result = await self._call(tool, arguments, envelope)
                    envelope.exchange.failed = bool(result.is_error)
                    return result
        except FullError:
            raise MCPServerBusy(self.name, self.config.max_calls, self.config.max_waiting) from None
        except TimeoutError:
            if not admitted:
                raise MCPServerBusy(self.name, self.config.max_calls, self._turnstile.waiting) from None
            if self.status is ConnectionStatus.CONNECTED:
                raise MCPToolError(tool.uri, f"it gave no answer within {self.config.timeout:g} s") from None
            raise self._unavailable() from None
        finally:
            envelope.closed = True

    async def _call(self, tool: RemoteTool, arguments: dict[str, Any], envelope: Envelope) -> CallToolResult:
        for last in (False, True):
            client, life = await self._standing()
            self._describe(envelope.exchange, life)
            try:
                return await self._send(client, tool, arguments, envelope)
            except BrokenWireError as error:
                unsent, reason, cause = not error.sent, str(error), error
            except MCPError as error:
                unsent = was_not_sent(error)
                envelope.exchange.error_code = error.code
                if not unsent and not (error.code == CONNECTION_CLOSED and self._broke(life)):
                    raise MCPToolError(tool.uri, error.message) from error
                reason, cause = life.ended or error.message, error
            except (NoAnswerError, RuntimeError, ValidationError) as error:
                raise MCPToolError(tool.uri, f"its answer cannot be used: {_unusable(error)}") from error
            if unsent:
                life.end(reason)
            else:
                self.calls.abandon()
            if last or not (unsent or tool.repeatable):
                how_far = "the call was not sent" if unsent else "whether the call took effect is not known"
                raise MCPServerUnavailable(self.name, f"{reason}; {how_far}") from cause
        raise AssertionError  # the loop returns or raises

    async def _send(self, client: Client, tool: RemoteTool, arguments: dict[str, Any], envelope: Envelope) -> CallToolResult:
        """Once: directly, where that can be; else, and where the server wants more than a call, by the SDK's client."""
        name = tool.tool.name
        if self._direct is not None and not tool.mirrored:
            with suppress(DeclinedError):
                result = await self._direct.call(tool, arguments, envelope)
                if isinstance(result, InputRequiredResult):
                    result = await go_on(client, result, name, arguments, envelope)
                tool.check_result(result)
                return result
        meta: Any = envelope.meta or None
        result = await client.call_tool(name, arguments, progress_callback=envelope.progress, meta=meta)
        tool.check_result(result)
        return result

    def _describe(self, exchange: Exchange, life: Life) -> None:
        """What is known before the call is sent."""
        config = self.config
        exchange.sent += 1
        exchange.error_code = None
        exchange.protocol_version = self.era
        exchange.transport = "pipe" if config.transport == "stdio" else "tcp"
        exchange.address, exchange.port = self._place
        exchange.session_id = life.session_id

    def _broke(self, life: Life) -> bool:
        """Whether "connection closed" is the SDK's word for a broken connection, and not the server's own error of that number.

        Over HTTP a single answer can break while everything else stands; over pipes it cannot.
        """
        return self.config.transport != "stdio" or not life.alive or life is not self._life

    async def _standing(self) -> tuple[Client, Life]:
        """The present client, as soon as there is one. Raises `MCPServerUnavailable` after `PATIENCE` failed attempts."""
        give_up_at = self.failed_attempts + PATIENCE
        self.waiting += 1
        try:
            while True:
                client, life = self._client, self._life
                if client is not None and life is not None:
                    if life.alive:
                        return client, life
                elif self._owner is None or self.failed_attempts >= give_up_at or self.status is ConnectionStatus.RESTING:
                    raise self._unavailable()
                else:
                    self._owner.put(Signal.WANTED)
                await self._changed()
        finally:
            self.waiting -= 1

    def _unavailable(self) -> MCPServerUnavailable:
        reason, retry_in = self.last_error or f"it did not answer within {self.config.timeout:g} s", self.retry_in()
        if retry_in is not None:
            reason += f"; it was tried too often, and will be again in {retry_in:g} s"
        return MCPServerUnavailable(self.name, reason, retry_after=retry_in)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _set(self, status: ConnectionStatus) -> None:
        self.status = status
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def _changed(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)


def _unusable(error: Exception) -> str:
    """Why an answer is none. The SDK raises `RuntimeError` for structured content that breaks the tool's own output schema."""
    if isinstance(error, ValidationError):
        return f"it breaks the protocol ({error.error_count()} faults)"
    return (str(error).splitlines() or [type(error).__name__])[0][:LONGEST_REASON]


def _place_of(config: MCPServerConfig) -> tuple[str | None, int | None]:
    """Host and port of a server at a URL."""
    if not config.url:
        return None, None
    url = urlsplit(config.url)
    return url.hostname, url.port or (443 if url.scheme == "https" else 80)
