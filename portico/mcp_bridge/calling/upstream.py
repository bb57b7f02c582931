"""MCPUpstream: the supervised process that owns the connection to one external MCP server.

One task opens the SDK's client, stays with it, and closes it, since a client must be closed by the task that opened it. It connects
anew by itself, with a backoff that starts over after health; more often than `max_restarts` within `restart_window`, and the server
is left alone for a while. Calls do not come through its mailbox: see `connection.py`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp.types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    LOG_LEVEL_META_KEY,
    PROTOCOL_VERSION_META_KEY,
    Implementation,
    ToolListChangedNotification,
)
from mcp.types.version import MODERN_PROTOCOL_VERSIONS

from portico.errors import StartError
from portico.kernel.inbox import Inbox
from portico.kernel.process import AgentProcess
from portico.mcp_bridge.calling.child import child
from portico.mcp_bridge.calling.command import CommandError
from portico.mcp_bridge.calling.connection import Connection, Life, Signal
from portico.mcp_bridge.calling.direct import DirectClient
from portico.mcp_bridge.calling.envelope import log_message
from portico.mcp_bridge.calling.remote import remote
from portico.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mcp.client._transport import Transport
    from mcp.client.session import IncomingMessage
    from mcp.types import CallToolResult, DiscoverResult, LoggingMessageNotificationParams, Tool

    from portico.kernel.router import Router

HEALTHY: Final = 10.0
"""Seconds after which a connection counts as healthy: when it is lost then, the next attempt follows at once."""
BACKOFF_BASE: Final = 0.1
"""Seconds before the second attempt; doubles with each that fails."""
BACKOFF_MAX: Final = 30.0
"""Seconds that no pause exceeds."""
BACKOFF_WANTED: Final = 0.5
"""Seconds that no pause exceeds while somebody waits for the connection."""
REST: Final = 30.0
"""Seconds that a server is left alone after too many restarts, before each further attempt."""
SHORTEST_TTL: Final = 10.0
"""Seconds that a list of tools is kept at least, whatever its server says of it: its tools are not asked for in a loop."""
START_PATIENCE: Final = 10.0
"""Seconds that the start of the tree waits for a server that is not required."""
MOST_PAGES: Final = 100
"""Pages of one listing; a server that has no last page does not hang us."""


class MCPUpstream(AgentProcess):
    """Keeps one external server connected.

    Args:
        name: its identity in the runtime.
        connection: what it shares with the callers; survives its restarts.

    `mode` is how the next connection asks for the protocol era: `auto`, or what the server has shown to know: `legacy`, or a
    revision of the new era, with what it said of itself then, for as long as it said that this holds.
    """

    internal = True
    tag = "mcp"

    def __init__(self, name: str, connection: Connection) -> None:
        super().__init__(name, shutdown_timeout=10.0)
        self.connection = connection
        self._log = logging.getLogger(f"portico.mcp.{connection.name}")
        self.mode = "auto"
        self._discovered: DiscoverResult | None = None
        self._discovery_ends = math.inf
        self._list_ends = math.inf
        self._failures = 0
        self._restarts: deque[float] = deque()
        self._stopping = False
        self._lived: Life | None = None

    def readiness(self) -> dict[str, Any]:
        """Whether its server is connected, for `/readyz` and the tree."""
        return self.connection.readiness()

    def upstream_figures(self) -> dict[str, Any]:
        """What `/metrics` shows of its server: JSON-able."""
        connection = self.connection
        figures, about = connection.figures, connection.readiness()
        return {
            "server": connection.name,
            "connected": about["ready"],
            "tools": len(about["tools"]),
            "in_flight": about["calls"]["in_flight"],
            "waiting": about["calls"]["waiting"],
            "reconnects": figures.reconnects,
            "calls": dict(figures.calls),
        }

    async def on_start(self) -> None:
        """Begin to connect; does not wait for it, so that many servers connect at once."""
        self._inbox = Inbox(self.router.clock)
        self._over = asyncio.Event()
        self.connection.begin(self._inbox)
        self.start_task(self._own(), "connection")

    async def on_stop(self) -> None:
        """Let the owner close the connection in its own task."""
        self._stopping = True
        self._inbox.put(Signal.STOP)
        await self._over.wait()

    # --- the owner ----------------------------------------------------------------------------------------------------

    async def _own(self) -> None:
        try:
            while not self._stopping:
                self.connection.connecting()
                await self._attempt()
                await self._pause()
        finally:
            self.connection.end()
            self._over.set()

    async def _attempt(self) -> None:
        """One connection, from the attempt to its end."""
        life, began = Life(self._inbox), self.router.clock.now()
        reason = "it was stopped"
        try:
            await self._live(life)
        except Exception as error:  # noqa: BLE001  # the border to the SDK and to a stranger's server: whatever comes is the reason
            reason = life.ended or reason_of(error)
        else:
            reason = life.ended or reason
        was_up = self._lived is life
        healthy = was_up and self.router.clock.now() - began >= HEALTHY
        self._failures = 0 if healthy else self._failures + 1
        if not was_up:
            self.mode, self._discovered = "auto", None
        if not self._stopping:
            self._restarts.append(self.router.clock.now())
            level = logging.WARNING if self._failures <= 1 else logging.DEBUG
            self._log.log(level, "%s: %s", "connection lost" if was_up else "not connected", reason)
        self.connection.down(reason, attempt_failed=not was_up)

    async def _live(self, life: Life) -> None:
        config = self.connection.config
        # One scope around everything: one that ended after the handshake would end before those that the client has opened in it.
        with anyio.CancelScope(deadline=anyio.current_time() + config.patience) as scope:
            async with self._client(self._transport(life)) as client:
                client.session.validate_tool_result = _checked_by_us
                tools = await self._listing(client)
                scope.deadline = math.inf
                direct = self._direct(client)
                self._came_up(client, life, tools, direct)
                try:
                    await self._stay(client, life)
                finally:
                    self.connection.leaving()
                    if direct is not None:
                        direct.close()
        if scope.cancelled_caught:
            raise TimeoutError(f"it did not answer within {config.patience:g} s")

    def _transport(self, life: Life) -> Transport:
        config = self.connection.config
        return child(config, life, self._log) if config.transport == "stdio" else remote(config, life)

    def _client(self, transport: Transport) -> Client:
        if self.router.clock.now() >= self._discovery_ends:
            self.mode, self._discovered = "auto", None
        level: Any = self.connection.config.log_level
        return Client(
            transport,
            mode=self.mode,
            prior_discover=self._discovered,
            client_info=Implementation(name="portico", version=__version__),
            message_handler=self._on_message,
            logging_callback=self._on_log,
            log_level=level,
            cache=None,
            **self.connection.requests.callbacks(),
        )

    def _direct(self, client: Client) -> DirectClient | None:
        """A client beside the SDK's, for plain calls, where the server speaks the revision that needs no session."""
        version, config = client.protocol_version, self.connection.config
        if version not in MODERN_PROTOCOL_VERSIONS or not DirectClient.takes(config):
            return None
        # What the SDK's client says about us, word for word; there is no public way to ask it.
        capabilities = client.session._build_capabilities(version)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        meta = {
            PROTOCOL_VERSION_META_KEY: version,
            CLIENT_INFO_META_KEY: {"name": "portico", "version": __version__},
            CLIENT_CAPABILITIES_META_KEY: capabilities.model_dump(by_alias=True, mode="json", exclude_none=True),
        }
        if config.log_level is not None:
            meta[LOG_LEVEL_META_KEY] = config.log_level
        return DirectClient(config, meta, version, partial(log_message, self._log))

    def _came_up(self, client: Client, life: Life, tools: Sequence[Tool], direct: DirectClient | None) -> None:
        self._lived = life
        # The next time without asking for the era.
        discovered = client.session.discover_result
        if discovered is None:
            self.mode, self._discovery_ends = "legacy", math.inf
        elif self._discovered is None:
            self.mode, self._discovered = client.protocol_version, discovered
            self._discovery_ends = self.router.clock.now() + discovered.ttl_ms / 1000 if discovered.ttl_ms else math.inf
        self._log.info("connected, %s, %d tools", client.protocol_version, len(tools))
        self.connection.up(client, life, tools, direct)

    async def _on_log(self, params: LoggingMessageNotificationParams) -> None:
        log_message(self._log, params.level, params.logger, params.data)

    async def _stay(self, client: Client, life: Life) -> None:
        """Until it is lost, or wanted no more."""
        capabilities = client.server_capabilities.tools
        listens = client.protocol_version in MODERN_PROTOCOL_VERSIONS and capabilities is not None and capabilities.list_changed
        async with anyio.create_task_group() as tasks:
            if listens:
                tasks.start_soon(self._listen, client)
            elif self.connection.config.log_level is not None:
                await self._ask_for_logs(client)
            while not self._stopping and life.ended is None:
                # Who tells of changes is listened to; a list of anybody else holds as long as its server said.
                heard = await self._inbox.get(until=None if listens or self._list_ends == math.inf else self._list_ends)
                if heard is Signal.CHANGED or self.router.clock.now() >= self._list_ends:
                    self.connection.relisted(await self._listing(client))
            tasks.cancel_scope.cancel()

    async def _ask_for_logs(self, client: Client) -> None:
        """The old era's way; the new one says it with each call."""
        level: Any = self.connection.config.log_level
        if client.protocol_version in MODERN_PROTOCOL_VERSIONS or client.server_capabilities.logging is None:
            return
        try:
            await client.session.set_logging_level(level)  # pyright: ignore[reportDeprecated]  # the old era has no other
        except MCPError as error:
            self._log.debug("it does not take the level of its log messages: %s", error.message)

    async def _listen(self, client: Client) -> None:
        """News of the list of tools, as the new era has them. A stream that breaks may have missed some: list, and listen again."""
        while True:
            try:
                async with client.listen(tools_list_changed=True) as news:
                    async for _ in news:
                        self._inbox.put(Signal.CHANGED)
            except (MCPError, RuntimeError) as error:
                self._log.debug("no news of its tools: %s", error)
            await self.sleep(BACKOFF_WANTED)
            self._inbox.put(Signal.CHANGED)

    async def _on_message(self, message: IncomingMessage) -> None:
        """News of the list of tools, as the old era has them."""
        if isinstance(message, ToolListChangedNotification):
            self._inbox.put(Signal.CHANGED)

    async def _pause(self) -> None:
        if self._stopping:
            return
        if self._restarts_spent():
            await self._rest()
            return
        if not self._failures:
            return
        clock = self.router.clock
        began, full = clock.now(), _backoff(self._failures)
        while not self._stopping:
            pause = min(full, BACKOFF_WANTED) if self.connection.waiting else full
            if clock.now() >= began + pause:
                return
            await self._inbox.get(until=began + pause)

    def _restarts_spent(self) -> bool:
        """Whether it was lost, or not reached, more often than it may within the window."""
        config, now = self.connection.config, self.router.clock.now()
        while self._restarts and self._restarts[0] <= now - config.restart_window:
            self._restarts.popleft()
        return len(self._restarts) > config.max_restarts

    async def _rest(self) -> None:
        """A pause that nobody who calls shortens."""
        self._log.warning(
            "%d restarts within %g s: the next attempt in %g s",
            len(self._restarts),
            self.connection.config.restart_window,
            REST,
        )
        self.connection.resting(REST)
        ends = self.router.clock.now() + REST
        while not self._stopping and self.router.clock.now() < ends:
            await self._inbox.get(until=ends)

    async def _listing(self, client: Client) -> list[Tool]:
        """Every tool of a server; none where it has no tools at all. Notes how long that holds."""
        self._list_ends = math.inf
        if client.server_capabilities.tools is None:
            return []
        tools: list[Tool] = []
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            page = await client.list_tools(cursor=cursor)
            tools += page.tools
            cursor = page.next_cursor
            if page.ttl_ms:
                ends = self.router.clock.now() + max(SHORTEST_TTL, page.ttl_ms / 1000)
                self._list_ends = min(self._list_ends, ends)
            if cursor is None:
                break
        return tools


class MCPGate(AgentProcess):
    """The last child of the bridge's supervisor: holds the start of the tree until every server is connected or had its chance.

    Args:
        name: its identity in the runtime.
        connections: whom it waits for, all at once.
        opened: called with the router when it starts, so that servers can be added at run time.
    """

    internal = True
    tag = "mcp"

    def __init__(self, name: str, connections: Sequence[Connection], opened: Callable[[Router], None]) -> None:
        longest = max((connection.config.patience for connection in connections), default=0.0)
        super().__init__(name, start_timeout=longest + START_PATIENCE + 30.0, restart="temporary")
        self._connections = connections
        self._opened = opened

    async def on_start(self) -> None:
        """Wait. Raises `StartError` where a required server is not connected."""
        self._opened(self.router)
        patience_ends = asyncio.get_running_loop().time() + START_PATIENCE
        for connection in self._connections:
            try:
                async with asyncio.timeout_at(None if connection.config.required else patience_ends):
                    connected = await connection.attempted()
            except TimeoutError:
                connected = False
            if connection.config.required and not connected:
                raise StartError(process_name(connection.name), connection.last_error or "it is not connected")


async def _checked_by_us(name: str, result: CallToolResult) -> None:
    """In place of the SDK's look at a result, which a schema can make last for ever; see `RemoteTool.check_result`."""


def process_name(server: str) -> str:
    """The name of the process that owns the connection to a server."""
    return f"mcp://{server}"


def _backoff(failures: int) -> float:
    return min(BACKOFF_BASE * 2.0 ** min(failures - 1, 30), BACKOFF_MAX) * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, no secret


def reason_of(error: BaseException) -> str:
    """One line: the first leaf of a group, since groups tell nothing."""
    leaf = error
    while isinstance(leaf, BaseExceptionGroup):
        leaf = cast("BaseExceptionGroup[BaseException]", leaf).exceptions[0]
    text = str(leaf).splitlines()[0] if str(leaf) else ""
    if isinstance(leaf, MCPError | TimeoutError | CommandError):
        return text or type(leaf).__name__
    return f"{type(leaf).__name__}: {text}" if text else type(leaf).__name__
