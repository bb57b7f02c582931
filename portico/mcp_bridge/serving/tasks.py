"""Tasks: the extension `io.modelcontextprotocol/tasks` (SEP-2663) of 2026-07-28: `tasks/get`, `tasks/update`, `tasks/cancel`.

A task is a run that is stored: what its client does here, it could do at `/runs` too. When a call becomes one is decided in
`long_call.py`. Above: `server.py`. Below: `task_form.py`, and the book of runs.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp.types import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    RequestParams,
)
from mcp.types.version import MODERN_PROTOCOL_VERSIONS

from portico.errors import ContractViolation, NotWaiting, PorticoError, UnknownRun
from portico.mcp_bridge.serving.caller import PRINCIPAL, scope_of
from portico.mcp_bridge.serving.earlier_calls import result_of
from portico.mcp_bridge.serving.input_requests import MissingResponse, answer_of
from portico.mcp_bridge.serving.task_form import detailed
from portico.runs.waiting import INPUT, questions_of, responses_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel import Server

    from portico.mcp_bridge.serving.served import Served
    from portico.runs.run import Run

TASKS: Final = "io.modelcontextprotocol/tasks"
"""The identifier of the extension."""


class TaskParams(RequestParams):
    """The parameters of `tasks/get` and `tasks/cancel`."""

    task_id: str


class UpdateParams(TaskParams):
    """The parameters of `tasks/update`."""

    input_responses: dict[str, Any]


class Tasks:
    """The handlers of the extension."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def register(self, server: Server[Any]) -> None:
        """Let a server have the extension."""
        server.extensions[TASKS] = {}
        server.add_request_handler("tasks/get", TaskParams, self.on_get)
        server.add_request_handler("tasks/update", UpdateParams, self.on_update)
        server.add_request_handler("tasks/cancel", TaskParams, self.on_cancel)

    async def on_get(self, context: ServerRequestContext[Any], params: TaskParams) -> dict[str, Any]:
        """`tasks/get`: how far it is, and its result once it has ended."""
        run = await self._find(context, params)
        served = self._served
        result = await result_of(served, run) if run.done else None
        return detailed(run, served.dispatcher.runtime, context.session.client_capabilities, result)

    async def on_update(self, context: ServerRequestContext[Any], params: UpdateParams) -> dict[str, Any]:
        """`tasks/update`: answers to what the task waits for; all of them, or some. Others are ignored."""
        run = await self._find(context, params)
        try:
            await self._answer(run, params.input_responses)
        except ContractViolation as error:
            raise MCPError(INVALID_PARAMS, error.detail, {"slug": error.slug, "errors": error.faults}) from None
        except PorticoError as error:
            raise MCPError(INTERNAL_ERROR, error.detail, {"slug": error.slug}) from None
        return {}

    async def on_cancel(self, context: ServerRequestContext[Any], params: TaskParams) -> dict[str, Any]:
        """`tasks/cancel`: nothing where it has ended."""
        run = await self._find(context, params)
        try:
            await self._served.dispatcher.book.cancel(run)
        except PorticoError as error:
            raise MCPError(INTERNAL_ERROR, error.detail, {"slug": error.slug}) from None
        return {}

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _find(self, context: ServerRequestContext[Any], params: TaskParams) -> Run:
        """The task's run. Raises `MCPError` where the request is not in order, or the caller has no such run."""
        if context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            raise MCPError(METHOD_NOT_FOUND, f"{context.method} is there from {MODERN_PROTOCOL_VERSIONS[0]} on.")
        if not knows_tasks(context):
            raise needs_tasks()
        _check_name(context, params.task_id)
        try:
            return await self._served.dispatcher.book.find(params.task_id, scope_of(context).get(PRINCIPAL))
        except UnknownRun as error:
            raise MCPError(INVALID_PARAMS, error.detail, {"slug": error.slug}) from None

    async def _answer(self, run: Run, given: Mapping[str, Any]) -> None:
        book, waits_for = self._served.dispatcher.book, run.waiting
        if waits_for is None or waits_for["kind"] != INPUT:
            return
        asked = questions_of(waits_for)
        told = {name: response for name, response in given.items() if name in asked}
        if not told:
            return
        responses = {**responses_of(waits_for), **told}
        with suppress(NotWaiting):  # it is answered, or over, meanwhile
            try:
                await answer_of(waits_for, responses).give(book, run)
            except MissingResponse:
                await book.keep_responses(run, responses)
            except ContractViolation:
                await book.keep_responses(run, {})
                raise


def knows_tasks(context: ServerRequestContext[Any]) -> bool:
    """Whether the client has declared the extension, with this request."""
    declared = context.session.client_capabilities
    modern = context.protocol_version in MODERN_PROTOCOL_VERSIONS
    return modern and declared is not None and declared.extensions is not None and TASKS in declared.extensions


def needs_tasks() -> MCPError:
    """The JSON-RPC error of what only a client that knows tasks can ask."""
    return MCPError(
        MISSING_REQUIRED_CLIENT_CAPABILITY,
        f"This needs the extension {TASKS}, which the client has not declared in its capabilities.",
        {"requiredCapabilities": {"extensions": {TASKS: {}}}},
    )


def _check_name(context: ServerRequestContext[Any], task_id: str) -> None:
    """Over HTTP, `Mcp-Name` must say the task too (SEP-2663, SEP-2243); the SDK looks at that of the core's methods only."""
    if context.request is not None and decode_header_value(context.request.headers.get(MCP_NAME_HEADER)) != task_id:
        raise MCPError(HEADER_MISMATCH, f"{MCP_NAME_HEADER} header does not match the request body's 'taskId' parameter")
