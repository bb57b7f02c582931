"""Pushing: a client of the old era is asked on the stream of its own call, while the run waits.

Above: `following.py`. Below: the session of the request. The requests are withdrawn (`notifications/cancelled`) when the run needs
no answer any more: somebody else has answered it, its time is over, or it was cancelled.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp.types import CreateMessageResult, CreateMessageResultWithTools, ElicitResult, ListRootsResult
from pydantic import ValidationError

from portico.errors import ContractViolation, NotWaiting
from portico.mcp_bridge.serving.input_requests import Refusal, answer_of, input_requests
from portico.mcp_bridge.serving.rounds import give_up

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server.context import ServerRequestContext
    from mcp.types import InputRequest
    from pydantic import BaseModel

    from portico.runs.book import RunBook
    from portico.runs.run import Run

ATTEMPTS: Final = 3
"""How often somebody is asked whose answers are not valid."""


async def push(book: RunBook, run: Run, waits: Mapping[str, Any], context: ServerRequestContext[Any], *, patience: float) -> None:
    """Ask the client, and give the run what it says. Returns when the run goes on, or has ended.

    Args:
        book: the runs.
        run: it waits.
        waits: for what.
        context: of the call.
        patience: seconds that the client may take; then the run ends with `InputTimeout`.

    Raises:
        CallerCannotAnswer: a question that has no form in MCP.
    """
    fault: str | None = None
    for _ in range(ATTEMPTS):
        requests = input_requests(waits, run_id=run.run_id, fault=fault)
        responses: dict[str, Any] = {}
        failures: dict[str, str] = {}
        with anyio.move_on_after(patience) as limit:
            await _ask_all(run, waits, context, requests, responses, failures)
        if run.waiting is not waits:
            return
        if limit.cancelled_caught:
            give_up(run)
            return
        try:
            answer = Refusal(failures) if failures else answer_of(waits, responses)
            await answer.give(book, run)
        except ContractViolation as error:
            fault = "; ".join(f"{one['path'] or 'it'}: {one['message']}" for one in error.faults)
            continue
        except NotWaiting:  # somebody else was quicker
            pass
        return
    await book.decline(run, dict.fromkeys(input_requests(waits), f"not valid: {fault}"))


async def _ask_all(
    run: Run,
    waits: Mapping[str, Any],
    context: ServerRequestContext[Any],
    requests: Mapping[str, InputRequest],
    responses: dict[str, Any],
    failures: dict[str, str],
) -> None:
    """Until every request has a response or has failed, or the run does not wait for that any more."""

    async def ask(name: str, request: InputRequest) -> None:
        try:
            responses[name] = await _ask(context, request)
        except MCPError as error:
            failures[name] = error.error.message
        except ValidationError:
            failures[name] = "the client's response is not valid"

    async with anyio.create_task_group() as watching:

        async def watch() -> None:
            while run.waiting is waits and not run.done:
                await run.news(run.last_visible, waits)
            watching.cancel_scope.cancel()

        watching.start_soon(watch)
        async with anyio.create_task_group() as asking:
            for name, request in requests.items():
                asking.start_soon(partial(ask, name, request))
        watching.cancel_scope.cancel()


async def _ask(context: ServerRequestContext[Any], request: InputRequest) -> BaseModel:
    kind: type[BaseModel]
    match request.method:
        case "elicitation/create":
            kind = ElicitResult
        case "roots/list":
            kind = ListRootsResult
        case _:
            with_tools = request.params.tools is not None or request.params.tool_choice is not None
            kind = CreateMessageResultWithTools if with_tools else CreateMessageResult
    return await context.session.send_request(request, kind, metadata=ServerMessageMetadata(related_request_id=context.request_id))
