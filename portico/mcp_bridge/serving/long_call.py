"""LongCall: one call of a tool that may take long: what its client is told then, and that the run is not lost.

A client that has declared tasks gets a task: at once where the operation says so, else when the call has taken `task_after`. Any
other client is answered "still running" before its own patience may end (`client_limit`), with the run's id for `fetch_result`.
The run is stored before either is told, and goes on whatever becomes of the connection. Short calls pay next to nothing for that.

Above: `answering.py`. Below: `task_form.py`, `still_running.py`, the dispatcher.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import anyio

from portico.errors import StoreUnavailable
from portico.kernel.memory import copied
from portico.mcp_bridge.serving.earlier_calls import TOOL
from portico.mcp_bridge.serving.still_running import still_running
from portico.mcp_bridge.serving.task_form import created
from portico.mcp_bridge.serving.tasks import knows_tasks, needs_tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp.server.context import ServerRequestContext
    from mcp.types import CallToolResult, InputRequiredResult

    from portico.kernel.messages import Message
    from portico.mcp_bridge.serving.served import Served
    from portico.mcp_bridge.serving.served_tool import ServedTool
    from portico.runs.call import Call
    from portico.runs.run import Run

TRY_AGAIN: Final = 1.0
"""Seconds after which is stored again what could not be."""


class LongCall:
    """See above. Raises `MCPError` where the operation is only a task, and the client knows none."""

    def __init__(self, served: Served, tool: ServedTool, call: Call, context: ServerRequestContext[Any]) -> None:
        self._served = served
        self._tool = tool
        self._call = call
        self._wanted = tool.endpoint.operation.task
        self._becomes_task = knows_tasks(context) and self._wanted is not False
        self._scope = anyio.CancelScope()
        if self._wanted == "required" and not self._becomes_task:
            raise needs_tasks()

    @property
    def is_task_at_once(self) -> bool:
        """Whether nobody waits for its end at all."""
        return self._becomes_task and bool(self._wanted)

    async def begin(self, call: Call) -> Run:
        """See `Lead.begin`: where its operation says that it takes long, it is stored before it is handled."""
        call.metadata = {TOOL: self._tool.tool.name}
        if call.run is not None:  # it was begun directly, and handed over
            return call.run
        if self._wanted:
            return await self._served.dispatcher.submit(call)
        call.payload = copied(call.payload)  # a handler may change it, and it may still have to be stored
        return await self._served.dispatcher.start(call)

    def lets_go_on(self, run: Run) -> bool:
        """See `Lead.lets_go_on`: where its time is over, or the gateway leaves and not the client."""
        return self._scope.cancel_called or (run.stored and self._served.dispatcher.draining)

    async def as_task(self) -> dict[str, Any]:
        """Make the call, and tell its task. Raises `PorticoError` where it is refused."""
        return created(await self.begin(self._call), self._served.dispatcher.runtime)

    async def within_patience(
        self, ask: Callable[[], Awaitable[Message | InputRequiredResult]]
    ) -> Message | InputRequiredResult | CallToolResult | dict[str, Any]:
        """Wait for what `ask` gives, for as long as the client is to wait. Then tell that the call goes on.

        Raises:
            PorticoError, MCPError: as `ask`, or as the run has ended.
        """
        options = self._served.options
        self._scope.deadline = anyio.current_time() + (options.task_after if self._becomes_task else options.client_limit)
        with self._scope:
            return await ask()
        run = self._call.run
        if run is None:  # it was not even accepted, by an interceptor that takes long
            raise StoreUnavailable("the call was not accepted in time")
        await self._keep(run)
        if run.done:
            return await run.outcome()
        if self._becomes_task:
            return created(run, self._served.dispatcher.runtime)
        return still_running(run, self._served.fetch_result.name, self._tool.tool.output_schema)

    async def _keep(self, run: Run) -> None:
        """Store the run, unless it ends before that can be done: nobody is told of a run that may be lost."""
        try:
            while not run.done:
                try:
                    await self._served.dispatcher.keep(self._call)
                except StoreUnavailable:
                    with anyio.move_on_after(TRY_AGAIN):
                        await run.wait()
                else:
                    return
        except BaseException:
            if not (run.stored and self._served.dispatcher.draining):
                run.cancel("The client cancelled the call.")
            raise
