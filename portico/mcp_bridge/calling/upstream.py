"""MCPUpstream: the supervised process that owns the connection to one external MCP server.

One task opens the SDK's client, stays with it, and closes it, since a client must be closed by the task that opened it. It connects
anew by itself, with a backoff that starts over after health. Calls do not come through its mailbox: see `connection.py`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp.types import Implementation, ToolListChangedNotification
from mcp.types.version import MODERN_PROTOCOL_VERSIONS

from portico.errors import StartError
from portico.kernel.inbox import Inbox
from portico.kernel.process import AgentProcess
from portico.mcp_bridge.calling.child import child
from portico.mcp_bridge.calling.command import CommandError
from portico.mcp_bridge.calling.connection import Connection, Life, Signal
from portico.mcp_bridge.calling.remote import remote
from portico.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mcp.client._transport import Transport
    from mcp.client.session import IncomingMessage
    from mcp.types import Tool

    from portico.kernel.router import Router

HEALTHY: Final = 10.0
"""Seconds after which a connection counts as healthy: when it is lost then, the next attempt follows at once."""
BACKOFF_BASE: Final = 0.1
"""Seconds before the second attempt; doubles with each that fails."""
BACKOFF_MAX: Final = 30.0
"""Seconds that no pause exceeds."""
BACKOFF_WANTED: Final = 0.5
"""Seconds that no pause exceeds while somebody waits for the connection."""
START_PATIENCE: Final = 10.0
"""Seconds that the start of the tree waits for a server that is not required."""
MOST_PAGES: Final = 100
"""Pages of one listing; a server that has no last page does not hang us."""


class MCPUpstream(AgentProcess):
    """Keeps one external server connected.

    Args:
        name: its identity in the runtime.
        connection: what it shares with the callers; survives its restarts.

    `mode` is how the next connection asks for the protocol era: `auto`, or `legacy` once the server has shown to know no other.
    """

    internal = True
    tag = "mcp"

    def __init__(self, name: str, connection: Connection) -> None:
        super().__init__(name, shutdown_timeout=10.0)
        self.connection = connection
        self._log = logging.getLogger(f"portico.mcp.{connection.name}")
        self.mode = "auto"
        self._failures = 0
        self._stopping = False
        self._lived: Life | None = None

    def readiness(self) -> dict[str, Any]:
        """Whether its server is connected, for `/readyz` and the tree."""
        return self.connection.readiness()

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
            self.mode = "auto"
        if not self._stopping:
            level = logging.WARNING if self._failures <= 1 else logging.DEBUG
            self._log.log(level, "%s: %s", "connection lost" if was_up else "not connected", reason)
        self.connection.down(reason, attempt_failed=not was_up)

    async def _live(self, life: Life) -> None:
        config = self.connection.config
        # One scope around everything: one that ended after the handshake would end before those that the client has opened in it.
        with anyio.CancelScope(deadline=anyio.current_time() + config.timeout) as scope:
            async with self._client(self._transport(life)) as client:
                tools = await _listing(client)
                scope.deadline = math.inf
                self._came_up(client, life, tools)
                try:
                    await self._stay(client, life)
                finally:
                    self.connection.leaving()
        if scope.cancelled_caught:
            raise TimeoutError(f"it did not answer within {config.timeout:g} s")

    def _transport(self, life: Life) -> Transport:
        config = self.connection.config
        return child(config, life, self._log) if config.transport == "stdio" else remote(config, life)

    def _client(self, transport: Transport) -> Client:
        return Client(
            transport,
            mode=self.mode,
            client_info=Implementation(name="portico", version=__version__),
            message_handler=self._on_message,
            cache=None,
            **self.connection.requests.callbacks(),
        )

    def _came_up(self, client: Client, life: Life, tools: Sequence[Tool]) -> None:
        self._lived = life
        # The next time without asking for the era.
        self.mode = "auto" if client.protocol_version in MODERN_PROTOCOL_VERSIONS else "legacy"
        self._log.info("connected, %s, %d tools", client.protocol_version, len(tools))
        self.connection.up(client, life, tools)

    async def _stay(self, client: Client, life: Life) -> None:
        """Until it is lost, or wanted no more."""
        capabilities = client.server_capabilities.tools
        listens = client.protocol_version in MODERN_PROTOCOL_VERSIONS and capabilities is not None and capabilities.list_changed
        async with anyio.create_task_group() as tasks:
            if listens:
                tasks.start_soon(self._listen, client)
            while not self._stopping and life.ended is None:
                if await self._inbox.get() is Signal.CHANGED:
                    self.connection.relisted(await _listing(client))
            tasks.cancel_scope.cancel()

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
        if self._stopping or not self._failures:
            return
        clock = self.router.clock
        began, full = clock.now(), _backoff(self._failures)
        while not self._stopping:
            pause = min(full, BACKOFF_WANTED) if self.connection.waiting else full
            if clock.now() >= began + pause:
                return
            await self._inbox.get(until=began + pause)


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
        longest = max((connection.config.timeout for connection in connections), default=0.0)
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


def process_name(server: str) -> str:
    """The name of the process that owns the connection to a server."""
    return f"mcp://{server}"


async def _listing(client: Client) -> list[Tool]:
    """Every tool of a server; none where it has no tools at all."""
    if client.server_capabilities.tools is None:
        return []
    tools: list[Tool] = []
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None:
            break
    return tools


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
