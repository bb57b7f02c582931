"""FetchResult: the tool that gets the result of a call which was answered "still running". The gateway's own; no agent's.

It is always listed: most clients read the list once, before they could know that they need it. Above: `tools.py`. Below:
`earlier_calls.py`, `following.py`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import anyio
from mcp.shared.exceptions import MCPError
from mcp.types import InputRequiredResult, Tool, ToolAnnotations

from portico.errors import ContractViolation, PorticoError
from portico.mcp_bridge.serving.caller import PRINCIPAL, call_of, scope_of
from portico.mcp_bridge.serving.earlier_calls import result_of, tool_of
from portico.mcp_bridge.serving.errors import error_result
from portico.mcp_bridge.serving.following import outcome_of
from portico.mcp_bridge.serving.still_running import still_running

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server.context import ServerRequestContext
    from mcp.types import CallToolRequestParams, CallToolResult

    from portico.mcp_bridge.serving.served import Served
    from portico.runs.call import Call
    from portico.runs.run import Run

NAMES: Final = ("fetch_result", "portico-fetch_result")
"""What it is called: the first name that no agent has."""

DESCRIPTION: Final = (
    "Get the result of an earlier tool call that was answered with 'still running'. Waits until it is there, or answers "
    "'still running' again: then call this tool once more. Fetching changes nothing, and may be done again."
)


class FetchResult:
    """The tool, as it is listed and called."""

    def __init__(self, served: Served) -> None:
        self._served = served

    @property
    def name(self) -> str:
        """Its name. An agent's tool of the same name goes before it."""
        taken = self._served.tools
        numbered = (f"{NAMES[-1]}_{number}" for number in range(2, len(taken) + 3))
        return next(name for name in (*NAMES, *numbered) if name not in taken)

    @property
    def tool(self) -> Tool:
        """As it is listed."""
        return Tool(
            name=self.name,
            title="Fetch the result of a long call",
            description=DESCRIPTION,
            input_schema=self.input_schema,
            annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False),
        )

    @property
    def input_schema(self) -> dict[str, Any]:
        """What it takes."""
        limit = self._served.options.client_limit
        return {
            "type": "object",
            "properties": {
                "run_id": {"type": "string", "minLength": 1, "description": "The run id that the 'still running' answer gave."},
                "wait": {
                    "type": "number",
                    "minimum": 0,
                    "description": f"Seconds to wait for the result: {limit:g} at most, which is also the default.",
                },
            },
            "required": ["run_id"],
            "additionalProperties": False,
        }

    async def call(self, context: ServerRequestContext[Any], params: CallToolRequestParams) -> CallToolResult | InputRequiredResult:
        """`tools/call` of it: as the call itself it tells progress, and asks the client what the run waits for.

        A client that cancels this cancels nothing else.
        """
        served, principal = self._served, scope_of(context).get(PRINCIPAL)
        try:
            run_id, wait = self._checked(params.arguments or {})
            run = await served.dispatcher.book.find(run_id, principal)
        except PorticoError as error:
            return error_result(error)
        tool = tool_of(served, run)
        if not run.done and tool is not None:
            call = call_of(tool.endpoint, None, context, timeout=served.options.run_timeout)
            with anyio.move_on_after(wait), suppress(PorticoError, MCPError):  # its error is told below; or it cannot be asked
                outcome = await outcome_of(served, call, context, params, _Known(run))
                if isinstance(outcome, InputRequiredResult):
                    return outcome
        return await result_of(served, run) if run.done else still_running(run, self.name)

    def _checked(self, arguments: Mapping[str, Any]) -> tuple[str, float]:
        """The run's id, and how long to wait. Raises `ContractViolation`."""
        limit = self._served.options.client_limit
        run_id, wait = arguments.get("run_id"), arguments.get("wait", limit)
        faults = [
            {"path": f"/{name}", "message": "Unknown argument", "type": "extra"}
            for name in arguments
            if name not in ("run_id", "wait")
        ]
        if not isinstance(run_id, str) or not run_id:
            faults.append(
                {"path": "/run_id", "message": "The id of a run is needed, as the earlier answer gave it", "type": "string"}
            )
        if isinstance(wait, bool) or not isinstance(wait, int | float) or not wait >= 0:
            faults.append({"path": "/wait", "message": "It must be a number of seconds", "type": "number"})
        if faults:
            raise ContractViolation(self.name, faults)
        return str(run_id), min(float(wait), limit)


class _Known:
    """See `following.Lead`: the run has begun long ago, and goes on."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def begin(self, call: Call) -> Run:
        del call
        return self._run

    def lets_go_on(self, run: Run) -> bool:
        del run
        return True
