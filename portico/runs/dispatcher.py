"""Dispatcher: the one door. HTTP, MCP, triggers and the command line each make a `Call` and hand it in here.

Validation, deadline, the crash budget, the run record and the trace happen here once; no face has its own copy. Above: the
faces. Below: the kernel, which delivers the message. It knows no HTTP and no MCP.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Protocol

from portico.errors import AgentCrashed, Cancelled, DeadlineExceeded, Draining, PorticoError
from portico.kernel import hooks
from portico.kernel.delivery import new_delivery
from portico.kernel.messages import Origin, new_message
from portico.operations.catalogue import Catalogue
from portico.runs.crash_budget import CrashBudget
from portico.runs.records import RunRecords
from portico.runs.run import Run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from portico.kernel.delivery import Delivery
    from portico.kernel.messages import Message
    from portico.kernel.runtime import Runtime
    from portico.operations.operation import RouteSpec
    from portico.runs.call import Call

ASK_TIMEOUT = 30.0
"""Seconds that a plain ask may take unless its call says otherwise."""
RUN_TIMEOUT = 3600.0
"""Seconds that a send, or a run that nobody waits for, may take."""


class CallObserver(Protocol):
    """Sees every call on its way through the door. Implemented by telemetry."""

    def dispatching(self, call: Call) -> AbstractContextManager[str | None]:
        """Around one call. The context manager may yield the `traceparent` that its message then carries."""
        ...


class Dispatcher:
    """Takes calls for one runtime.

    Args:
        runtime: whose agents are called. The dispatcher neither starts nor stops it.
        routes: declared outside the classes: each with its agent and operation.
        observers: who sees every call.
        records: where runs are remembered.
    """

    def __init__(
        self,
        runtime: Runtime,
        routes: Sequence[tuple[RouteSpec, str, str | None]] = (),
        *,
        observers: Sequence[CallObserver] = (),
        records: RunRecords | None = None,
    ) -> None:
        self.runtime = runtime
        self.records = RunRecords() if records is None else records
        self.draining = False
        self._routes = routes
        self._observers = list(observers)
        self._router = runtime.router
        self._budget = CrashBudget(runtime.router.clock)
        self._catalogue: Catalogue | None = None

    @property
    def catalogue(self) -> Catalogue:
        """What is served to the outside. Raises `UnknownAgent` or `UnknownOperation` for a route that leads nowhere."""
        if self._catalogue is None:
            self._catalogue = Catalogue(self.runtime.addressed_agents(), self._routes)
        return self._catalogue

    async def ask(self, call: Call) -> Message:
        """Wait for the reply. A caller that is cancelled cancels the handling.

        Raises:
            CallError: as it ended.
        """
        if self._observers:
            with ExitStack() as stack:
                self._enter(stack, call)
                return await self._perform(self._admit(call, ASK_TIMEOUT))
        return await self._perform(self._admit(call, ASK_TIMEOUT))

    def start(self, call: Call) -> Run:
        """Begin a run that nobody needs to wait for: a send, or an ask whose events are followed.

        Raises:
            Refused: it was not accepted, and there is no run.
        """
        with ExitStack() as stack:
            self._enter(stack, call)
            run = self._admit(call, RUN_TIMEOUT)
        self._router.start_task(self._perform_unwatched(run), run.run_id)
        return run

    # --- inside -------------------------------------------------------------------------------------------------------

    def _enter(self, stack: ExitStack, call: Call) -> None:
        for observer in self._observers:
            call.traceparent = hooks.enter(stack, observer.dispatching, call) or call.traceparent

    def _admit(self, call: Call, default_timeout: float) -> Run:
        if self.draining:
            raise Draining
        run = Run(call.endpoint, call.principal)
        origin = Origin(run.run_id, call.principal, call.address)
        if self._budget:
            self._budget.check(origin.payer)
        endpoint, timeout = call.endpoint, call.timeout
        operation = endpoint.operation
        contract = operation.contract
        message = new_message(
            operation.name,
            call.payload,
            "",
            endpoint.agent,
            None,
            self._router.clock.now() + (default_timeout if timeout is None else timeout),
            origin,
            call.traceparent,
        )
        message.id = run.run_id
        if contract.typed_request:
            message.local = contract.accept(call.payload, call.raw)
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        run.delivery = delivery = new_delivery(message, future, run, call.one_way)
        self._router.deliver(delivery)
        self._router.deadlines.add(delivery)
        self.records.add(run)
        call.run = run
        return run

    async def _perform(self, run: Run) -> Message:
        delivery = run.delivery
        if delivery is None or delivery.future is None:
            raise Cancelled
        try:
            reply = await delivery.future
        except asyncio.CancelledError:
            self._charge(delivery, crashed=delivery.crashed)
            run.cancel("Its caller went away.")
            raise
        except PorticoError as error:
            cut_short = isinstance(error, DeadlineExceeded | Cancelled)
            self._charge(delivery, crashed=isinstance(error, AgentCrashed) or (cut_short and delivery.crashed))
            run.finish(None, error)
            raise
        finally:
            self._router.deadlines.discard(delivery)
        run.finish(reply, None)
        return reply

    def _charge(self, delivery: Delivery, *, crashed: bool) -> None:
        """A call that crashed its agent pays for it: also where its caller left, or its deadline passed, before it was repeated."""
        origin = delivery.message.origin
        if crashed and origin is not None:
            self._budget.charge(origin.payer)

    async def _perform_unwatched(self, run: Run) -> None:
        with suppress(PorticoError):  # the run has it
            await self._perform(run)
