"""Following: one run for one request: what is told of it, what its client is asked meanwhile, and its end.

Above: `answering.py` and the handlers of prompts. Below: `telling.py`, `input_requests.py`, `rounds.py`, `pushing.py`.

A run that waits for its caller is answered from the responses that the request has brought; otherwise a client of 2026-07-28 gets
an `InputRequiredResult` and comes back, and one of the old era is asked on the stream of its call.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol

from mcp.shared.exceptions import MCPError
from mcp.types import MISSING_REQUIRED_CLIENT_CAPABILITY, InputRequiredResult, MissingRequiredClientCapabilityErrorData
from mcp.types.version import MODERN_PROTOCOL_VERSIONS

from portico.errors import CallerCannotAnswer, ContractViolation, NotWaiting
from portico.mcp_bridge.serving.errors import RUN_ID
from portico.mcp_bridge.serving.input_requests import MissingResponse, answer_of, input_requests, lacking
from portico.mcp_bridge.serving.pushing import push
from portico.mcp_bridge.serving.request_state import Binding
from portico.mcp_bridge.serving.telling import Teller
from portico.runs.waiting import INPUT, questions_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server.context import ServerRequestContext
    from mcp.types import ClientCapabilities, InputResponseRequestParams

    from portico.kernel.messages import Message
    from portico.mcp_bridge.serving.served import Served
    from portico.runs.call import Call
    from portico.runs.run import Run


async def outcome_of(
    served: Served,
    call: Call,
    context: ServerRequestContext[Any],
    params: InputResponseRequestParams,
    lead: Lead | None = None,
) -> Message | InputRequiredResult:
    """Make a call, or go on with the one that the request's state leads to, and follow it: to its reply, or to the next round.

    A client that cancels, or of the new era goes away, cancels this task, and so the run, unless `lead` says that it goes on.

    Raises:
        PorticoError: as the call ended.
        MCPError: the request's state leads nowhere, or the client lacks a capability.
    """
    asked = Binding(
        context.method,
        getattr(params, "name", None) or getattr(params, "uri", ""),
        getattr(params, "arguments", None) or {},
        call.principal,
    )
    following = Following(served, context, asked, call.principal or call.address or "", lead)
    responses = dict[str, Any](params.input_responses or {})
    if params.request_state is None:
        run = await (served.dispatcher.start(call) if lead is None else lead.begin(call))
        return await following.follow(run, responses)
    run, key, pause = await served.rounds.take_up(params.request_state, asked)
    call.run = run
    if run.waiting is None or run.waiting["key"] != key:
        responses = {}  # they answer what has been answered meanwhile
    if pause is None:
        return await following.follow(run, responses, told=run.last_visible)
    return await following.follow(run, {**pause.responses, **responses}, told=pause.told)


class Lead(Protocol):
    """Who decides how a run begins, and what becomes of it where nobody follows it any more."""

    async def begin(self, call: Call) -> Run:
        """Begin the run of a call. Raises as `Dispatcher.start`."""
        ...

    def lets_go_on(self, run: Run) -> bool:
        """Whether a run goes on that is not followed to its end; else it is cancelled."""
        ...


class Following:
    """One request's view of a run."""

    def __init__(
        self, served: Served, context: ServerRequestContext[Any], asked: Binding, payer: str, lead: Lead | None = None
    ) -> None:
        self._served = served
        self._book = served.dispatcher.book
        self._context = context
        self._asked = asked
        self._payer = payer
        self._lead = lead
        self._teller = Teller(context)

    async def follow(self, run: Run, responses: Mapping[str, Any], *, told: int = 0) -> Message | InputRequiredResult:
        """See `outcome_of`. `responses`: to what it asks; `told`: the number of the last event that the client knows."""
        listens, left = self._teller.listens, False
        last = told if listens else sys.maxsize
        try:
            while True:
                waits = run.waiting
                for event in await run.next_events(last) if listens else ():
                    last = event.seq
                    await self._teller.tell(event)
                if run.is_over_at(last):
                    return await run.outcome()
                if waits is not None and waits["kind"] == INPUT and run.waiting is waits:
                    round_is_over = await self._ask(run, waits, responses, last if listens else 0)
                    responses = {}
                    if round_is_over is not None:
                        left = True
                        return round_is_over
                    continue
                await run.news(last, waits)
        except _Left as reason:
            left = True
            raise reason.error from None
        finally:
            if not left and not (self._lead is not None and self._lead.lets_go_on(run)):
                run.cancel("The client cancelled the call.")  # does nothing when it has ended

    async def _ask(self, run: Run, waits: Mapping[str, Any], responses: Mapping[str, Any], told: int) -> InputRequiredResult | None:
        """Get the run what it waits for. Returns what ends this round; None where the run goes on."""
        fault, kept = None, dict[str, Any]()
        if responses:
            try:
                await answer_of(waits, responses).give(self._book, run)
            except MissingResponse:
                kept = {name: response for name, response in responses.items() if name in questions_of(waits)}
            except ContractViolation as error:
                fault = "; ".join(f"{one['path'] or 'it'}: {one['message']}" for one in error.faults)
            except NotWaiting:  # somebody else was quicker
                return None
            else:
                return None
        missing = lacking(waits, self._context.session.client_capabilities)
        if self._context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            if missing is not None or not self._context.session.can_send_request:
                self._leave(run, waits)
            await push(self._book, run, waits, self._context, patience=self._served.options.input_timeout)
            return None
        if missing is not None:
            raise _missing_capability(waits, missing)
        requests = input_requests(waits, run_id=run.run_id, fault=fault)
        state = self._served.rounds.pause(run, self._asked, self._payer, told=told, responses=kept)
        return InputRequiredResult(
            input_requests={name: request for name, request in requests.items() if name not in kept},
            request_state=state,
            _meta={RUN_ID: run.run_id},
        )

    def _leave(self, run: Run, waits: Mapping[str, Any]) -> None:
        """The client has no means to answer. Over HTTP, somebody else has: then the run waits for them, for a while."""
        prompt, reason = waits["prompt"], "The client cannot be asked: it has not declared that it answers questions of this kind."
        kinds = {question["asks"] for question in questions_of(waits).values()}
        if self._context.request is None or kinds != {INPUT}:
            raise CallerCannotAnswer(prompt, reason)
        self._served.rounds.leave(run, self._payer)
        way = f"Run {run.run_id!r} waits for somebody's answer, by POST /runs/{run.run_id}/input."
        raise _Left(CallerCannotAnswer(prompt, f"{reason} {way}"))


class _Left(Exception):
    """The request ends with an error, and its run goes on."""

    def __init__(self, error: CallerCannotAnswer) -> None:
        super().__init__(error.detail)
        self.error = error


def _missing_capability(waits: Mapping[str, Any], missing: ClientCapabilities) -> MCPError:
    """-32021, as the revision 2026-07-28 wants it of whatever needs a capability that the client has not declared."""
    data = MissingRequiredClientCapabilityErrorData(required_capabilities=missing)
    names = [name for name in ("elicitation", "sampling", "roots") if getattr(missing, name) is not None]
    message = f"The client has not declared {' and '.join(names)}, which this call needs: {waits['prompt']}"
    return MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, message, data.model_dump(by_alias=True, mode="json", exclude_none=True))
