"""Dispatcher: the one door. HTTP, MCP, triggers and the command line each make a `Call` and hand it in here.

Validation, deadline, idempotency, the crash budget, the run record and the trace happen here once; no face has its own copy.
Above: the faces. Below: the book, which keeps runs, and the kernel, which delivers the message. It knows no HTTP and no MCP.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from portico.errors import (
    AgentCrashed,
    Cancelled,
    DeadlineExceeded,
    Draining,
    InsufficientScope,
    KeyReused,
    Overloaded,
    PorticoError,
    QuotaExceeded,
    Refused,
)
from portico.kernel import hooks
from portico.kernel.delivery import new_delivery
from portico.kernel.messages import Message, Origin, new_id, new_message, new_reply
from portico.kernel.timed_delivery import TimedDelivery
from portico.operations.catalogue import Endpoint
from portico.operations.operation import Operation
from portico.runs.audit_entry import AuditAction
from portico.runs.auditor import Doer, Unaudited
from portico.runs.book import book_of
from portico.runs.call import permits
from portico.runs.callback import Callback
from portico.runs.crash_budget import CrashBudget
from portico.runs.idempotency import KEPT, fingerprint_of, scope_of
from portico.runs.interceptor import wrapped
from portico.runs.record import RunRecord
from portico.runs.roster import Roster
from portico.runs.run import Run
from portico.runs.store import AcceptRun, Redrive, RunExists

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from contextlib import AbstractContextManager

    from portico.kernel.delivery import Delivery
    from portico.kernel.runtime import Runtime
    from portico.operations.catalogue import Catalogue
    from portico.operations.operation import RouteSpec
    from portico.runs.auditor import Auditor
    from portico.runs.call import Call
    from portico.runs.call_observer import CallObserver, Exchange
    from portico.runs.dead_letters import DeadLetter
    from portico.runs.interceptor import Interceptor, Next
    from portico.runs.meter import Meter
    from portico.runs.quota import Quota

logger = logging.getLogger("portico.runs")

ASK_TIMEOUT = 30.0
"""Seconds that a plain ask may take unless its call says otherwise."""
RUN_TIMEOUT = 3600.0
"""Seconds that a send, or a run that nobody waits for, may take."""
MAX_CALLS = 10_000
"""Plain asks in flight at once."""
SMOOTHING = 0.05
"""The weight of the newest call in the mean time that calls take."""


class HandedOver(Exception):  # it is no error: the call goes on
    """Raised out of `ask` by `hand_over`."""


class Dispatcher:
    """Takes calls for one runtime.

    Args:
        runtime: whose agents are called. The dispatcher neither starts nor stops it.
        routes: declared outside the classes: each with its agent and operation.
        observers: who sees every call.
        interceptors: around every call, the outermost first; those of its route stand further in.
        quota: how often one caller may call; None for as often as it likes.
        max_calls: how many plain asks may be in flight; more are refused.
    """

    meter: Meter | None = None
    """Who counts the calls. The ends of stored runs it hears of from the book, which also has those of earlier lives."""

    def __init__(
        self,
        runtime: Runtime,
        routes: Sequence[tuple[RouteSpec, str, str | None]] = (),
        *,
        observers: Sequence[CallObserver] = (),
        interceptors: Sequence[Interceptor] = (),
        quota: Quota | None = None,
        max_calls: int = MAX_CALLS,
    ) -> None:
        self.runtime = runtime
        self.book = book_of(runtime)
        self.roster = Roster(runtime, routes)
        self.draining = False
        self.audit: Auditor = Unaudited()
        """Who is told what was done. Faces tell it of actions; of calls it hears here."""
        self._observers = list(observers)
        self._exchanges: list[Callable[..., AbstractContextManager[Exchange]]] = [
            hook for one in observers if (hook := getattr(one, "exchanging", None)) is not None
        ]
        self._interceptors = tuple(interceptors)
        self._quota = quota
        self._max_calls = max_calls
        self._mean = 0.0
        self.in_flight = 0
        self._router = runtime.router
        self._budget = CrashBudget(runtime.router.clock)
        self.book.on_failure.append(self._charge_for)

    @property
    def catalogue(self) -> Catalogue:
        """What is served to the outside. Raises `UnknownAgent` or `UnknownOperation` for a route that leads nowhere."""
        return self.roster.catalogue

    def ask(self, call: Call) -> Coroutine[Any, Any, Message]:
        """Wait for the reply to a plain ask, which is only remembered. A caller that is cancelled cancels the handling.

        Raises:
            CallError: as it ended.
        """
        # No coroutine of its own: where nobody audits calls, this costs nothing to speak of.
        return self._audited(call, self._ask_let_in) if self.audit.calls else self._ask_let_in(call)

    async def _ask_let_in(self, call: Call) -> Message:
        endpoint = call.endpoint
        if self.draining or self._budget or self._quota is not None or endpoint.scopes:
            self._let_in(call)
        if self._interceptors or endpoint.interceptors:
            return _reply(await self._chain(call, self._ask)(call))
        if self._observers:
            return await self._ask(call)
        return await self._perform(self._admit(call, ASK_TIMEOUT))

    async def ask_regardless(self, call: Call) -> Message:
        """The same, but the handling goes on where the caller is cancelled.

        Raises:
            CallError: as it ended.
        """
        reply: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._router.start_task(self._answer(call, reply), "ask")
        return await reply

    async def start(self, call: Call) -> Run:
        """Begin a plain ask that nobody needs to wait for, such as one whose events are followed.

        Raises:
            Refused: it was not accepted, and there is no run.
        """
        if self.audit.calls:
            with self.audit.call(call, begun=True):
                return await self._start(call)
        return await self._start(call)

    async def _start(self, call: Call) -> Run:
        self._let_in(call)
        if self._interceptors or call.endpoint.interceptors:
            admitted: asyncio.Future[Run] = asyncio.get_running_loop().create_future()
            beginning = self._router.start_task(self._start_through(call, admitted), "ask")
            try:
                return await admitted
            except asyncio.CancelledError:
                beginning.cancel()  # nobody will follow it
                raise
        run = self._begin(call)
        self._router.start_task(self._perform_unwatched(run), run.run_id)
        return run

    async def submit(self, call: Call) -> Run:
        """Begin a run that outlives its connection, and the program. When this returns, it is stored.

        Where the same call came before (`idempotency_key`, `run_id`), that one's run, and `call.replayed` is true.

        Raises:
            Refused: it was not accepted, and there is no run.
        """
        if self.audit.calls:
            with self.audit.call(call, begun=True):
                return await self._submit_through(call)
        return await self._submit_through(call)

    async def _submit_through(self, call: Call) -> Run:
        if call.endpoint.scopes:
            self.authorise(call)
        if self._interceptors or call.endpoint.interceptors:
            run: Run = await self._chain(call, self._submit)(call)
            return run
        return await self._submit(call)

    def hand_over(self, call: Call) -> bool:
        """Let go of whoever awaits `ask`: that raises `HandedOver` now, and the run goes on as one that was begun by `start`.

        Returns False where nothing can be handed over: the call has ended, is not accepted yet, or has interceptors around it,
        which would not see its end.
        """
        run = call.run
        delivery = run.delivery if run is not None else None
        if run is None or delivery is None or delivery.future is None or delivery.future.done() or self.intercepts(call.endpoint):
            return False
        before, delivery.future = delivery.future, asyncio.get_running_loop().create_future()
        self._router.start_task(self._perform_unwatched(run), run.run_id)
        before.set_exception(HandedOver())
        return True

    def intercepts(self, endpoint: Endpoint) -> bool:
        """Whether there are interceptors around the calls of an endpoint."""
        return bool(self._interceptors or endpoint.interceptors)

    async def keep(self, call: Call) -> None:
        """Store a plain ask that was begun by `start`, or handed over, so that it outlives its connection and the program.

        Its handling goes on as it began, and its end is stored before anybody is told of it. Only where the program ends first, it
        is handled again in the next life, from its beginning, with the steps and answers that it had (unless its operation says
        `idempotent=False`): what it had sent, asked and changed before comes again then. `submit` is what has none of that.
        Does nothing where the run is stored already, or has ended.

        Raises:
            StoreUnavailable: it could not be stored, and is still a plain ask.
        """
        run = call.run
        if run is None or run.stored or run.done:
            return
        record = self._record(call, keyed=False)
        record.run_id, record.created = run.run_id, run.created
        if run.tally is not None:  # its end is counted as that of any stored run
            run.tally.plain -= 1
            run.tally.stored += 1
            run.tally.kept += 1
            tally, run.tally = run.tally, None
        else:
            tally = None
        try:
            await self.book.adopt(run, record)
        except PorticoError:
            if tally is not None and not run.done:
                tally.plain += 1
                tally.stored -= 1
                tally.kept -= 1
                run.tally = tally
            raise

    async def recover(self) -> None:
        """Take up what an earlier life of the program has left unfinished: now, or when the whole tree has started.

        Raises:
            StoreError: the store cannot be read.
        """
        if self.runtime.ready:
            await self.book.recover()
        else:
            self._router.start_task(self._recover_later(), "recovery")

    async def redrive(self, letter: DeadLetter, call: Call) -> Run:
        """Send a dead letter again, as a new run: `call` is the same request. Raises `Refused`, and it stays a dead letter.

        Who does that several times at once gets the same run each time.
        """
        call.idempotency_key = f"redrive {letter.id}"  # with a blank, which no key of a client has
        run = await self.submit(call)
        if letter.run_id is not None:
            await self.book.keep(Redrive(letter.run_id))
        self.book.dead_letters.forget(letter)
        return run

    def endpoint_of(self, letter: DeadLetter) -> Endpoint:
        """What a dead letter asks whom, also where the outside cannot ask that. Raises `UnknownAgent` where nobody is there."""
        found = self.runtime.operations_of(letter.agent).get(letter.operation)
        if self.runtime.find(letter.agent) is None:
            raise self.runtime.registry.unknown(letter.agent)
        operation = found if isinstance(found, Operation) else Operation(name=letter.operation, attribute="handle")
        for endpoint in self.catalogue.tools.values():
            if endpoint.agent == letter.agent and endpoint.operation is operation:
                return endpoint  # with the scopes and interceptors that it has on every other way in
        return Endpoint(letter.agent, operation, sole=False, description="")

    async def _recover_later(self) -> None:
        """For a gateway that is part of the tree: agents that stand after it are not there yet."""
        try:
            await self.runtime.start()  # until it has
            await self.book.recover()
        except PorticoError as error:
            logger.error("what an earlier life of the program has left could not be taken up: %s", error)  # noqa: TRY400  # one line says it all

    def authorise(self, call: Call) -> None:
        """Raises `InsufficientScope` where the caller is known and lacks what the operation, its agent or its route demands."""
        endpoint = call.endpoint
        if not permits(call.scopes, endpoint.scopes):
            operation = endpoint.operation.name
            if self.audit.on:
                doer = Doer(face=call.face, principal=call.principal, address=call.address, request_id=call.request_id)
                about = {"agent": endpoint.agent, "operation": operation}
                self.audit.record(AuditAction.REFUSED, InsufficientScope.slug, doer=doer, details=about, refused=True)
            raise InsufficientScope(f"Operation {operation!r} of {endpoint.agent!r}", endpoint.scopes)

    # --- inside: the door ---------------------------------------------------------------------------------------------

    async def _audited(self, call: Call, ask: Callable[[Call], Awaitable[Message]]) -> Message:
        with self.audit.call(call, begun=False):
            return await ask(call)

    def _let_in(self, call: Call) -> None:
        """What is asked of every call before anything else, and counted where it is refused."""
        try:  # the order is that of what it costs the caller
            if self.draining:
                raise Draining
            endpoint = call.endpoint
            if endpoint.scopes:
                self.authorise(call)
            payer = call.principal or call.address
            if payer is not None:
                if self._budget:
                    self._budget.check(payer)
                if self._quota is not None:
                    self._take(self._quota, call, payer)
        except PorticoError as error:
            if self.meter is not None:
                self.meter.rejected(call, error)
            raise

    def _take(self, quota: Quota, call: Call, payer: str) -> None:
        try:
            call.allowance = quota.take(payer)
        except QuotaExceeded as error:
            call.allowance = error.allowance
            raise

    def _chain(self, call: Call, innermost: Next) -> Next:
        return wrapped((*self._interceptors, *call.endpoint.interceptors), innermost)

    # --- inside: what both kinds share --------------------------------------------------------------------------------

    async def _ask(self, call: Call) -> Message:
        with ExitStack() as stack:
            self._enter(stack, call)
            return await self._perform(self._admit(call, ASK_TIMEOUT))

    async def _answer(self, call: Call, reply: asyncio.Future[Message]) -> None:
        try:
            answer = await self.ask(call)
        except asyncio.CancelledError:  # by an interceptor, or with the runtime: whoever waits learns of it
            if not reply.done():
                reply.set_exception(Cancelled())
            raise
        except Exception as error:  # noqa: BLE001  # it is handed on
            if not reply.done():
                reply.set_exception(error)
            return
        if not reply.done():
            reply.set_result(answer)

    def _begin(self, call: Call) -> Run:
        with ExitStack() as stack:
            self._enter(stack, call)
            return self._admit(call, RUN_TIMEOUT)

    async def _start_through(self, call: Call, admitted: asyncio.Future[Run]) -> None:
        """A plain ask with interceptors around it: they see it to its end, who waits for `admitted` only its beginning."""
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        async def perform(call: Call) -> Message:
            run = self._begin(call)
            if not admitted.done():
                run.answer = answer
                admitted.set_result(run)
            return await self._perform(run)

        try:
            reply = _reply(await self._chain(call, perform)(call))
        except asyncio.CancelledError:  # as in `_answer`
            if not admitted.done():
                admitted.set_exception(Cancelled())
            answer.set_exception(Cancelled())
            answer.exception()  # heard: perhaps nobody awaits it
            raise
        except Exception as error:
            answer.set_exception(error)
            answer.exception()
            if not admitted.done():
                admitted.set_exception(error)
            elif not isinstance(error, PorticoError):
                logger.exception("an interceptor of %s failed after its call had begun", call.endpoint.agent)
            return
        answer.set_result(reply)
        if not admitted.done():  # answered without asking
            call.run = run = Run(call.endpoint.agent, call.endpoint.operation.name, call.principal, self.book)
            run.finish(reply, None)
            self.book.plain.add(run)
            admitted.set_result(run)

    async def _submit(self, call: Call) -> Run:
        with ExitStack() as stack:
            self._enter(stack, call)
            return await self._accept(call)

    @property
    def observes_exchanges(self) -> bool:
        """Whether an observer wants to be told of requests that come over no HTTP."""
        return bool(self._exchanges)

    def exchanging(self, **words: Any) -> AbstractContextManager[Exchange]:
        """Around one request that comes over no HTTP; the first observer that wants to know is told. See `ExchangesObserved`."""
        return self._exchanges[0](**words)

    def _enter(self, stack: ExitStack, call: Call) -> None:
        for observer in self._observers:
            call.traceparent = hooks.enter(stack, observer.dispatching, call) or call.traceparent

    def _admit(self, call: Call, default_timeout: float) -> Run:
        try:
            run = self._admitted(call, default_timeout)
        except Exception as error:
            if self.meter is not None:
                self.meter.rejected(call, error)
            raise
        if self.meter is not None:
            run.tally = tally = self.meter.of(run.agent, run.operation)
            tally.plain += 1
        return run

    def _admitted(self, call: Call, default_timeout: float) -> Run:
        endpoint, timeout = call.endpoint, call.timeout
        if self.in_flight >= self._max_calls:
            raise Overloaded(self._max_calls, self._mean / self._max_calls)
        operation = endpoint.operation
        run = Run(endpoint.agent, operation.name, call.principal, self.book)
        origin = Origin(run.run_id, call.principal, call.address, call.request_id)
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
        delivery = (
            new_delivery(message, future, run, call.one_way)
            if call.timing is None
            else TimedDelivery(message, future, run, call.one_way, call.timing)
        )
        run.delivery = delivery
        if call.answerable is not None:
            run.answerable = call.answerable
        if call.on_wait is not None:
            run.on_wait = call.on_wait
        self._router.deliver(delivery)
        self._router.deadlines.add(delivery)
        self.book.plain.add(run)
        self.in_flight += 1
        call.run = run
        return run

    async def _perform(self, run: Run) -> Message:
        delivery = run.delivery
        began, failure, handed = self._router.clock.now(), None, False
        try:
            if delivery is None or delivery.future is None:
                raise Cancelled
            reply = await delivery.future
        except HandedOver:
            handed = True  # whoever goes on with it counts it
            raise
        except (asyncio.CancelledError, PorticoError) as error:
            failure = error
            self._has_failed(run, delivery, error)
            raise
        finally:
            if not handed:
                self.in_flight -= 1
                took = self._router.clock.now() - began
                self._mean += (took - self._mean) * SMOOTHING
                if run.tally is not None:
                    run.tally.ended(failure, took, None if delivery is None else delivery.message.traceparent)
                if delivery is not None:
                    self._router.deadlines.discard(delivery)
        if run.record is not None:
            await self.book.conclude(run, reply)
            return reply
        run.finish(reply, None)
        return reply

    def _has_failed(self, run: Run, delivery: Delivery | None, error: PorticoError | asyncio.CancelledError) -> None:
        if run.record is not None:  # it was stored meanwhile; who cancels this is the runtime then, which stops
            self.book.failed(run, error)
        elif isinstance(error, PorticoError):
            if delivery is not None:
                self._charge_for(delivery, error)
            run.finish(None, error)
        elif delivery is not None:
            self._charge(delivery, crashed=delivery.crashed)
            run.cancel("Its caller went away.")

    def _charge_for(self, delivery: Delivery, error: BaseException) -> None:
        cut_short = isinstance(error, DeadlineExceeded | Cancelled)
        self._charge(delivery, crashed=isinstance(error, AgentCrashed) or (cut_short and delivery.crashed))

    def _charge(self, delivery: Delivery, *, crashed: bool) -> None:
        """A call that crashed its agent pays for it: also where its caller left, or its deadline passed, before it was repeated."""
        origin = delivery.message.origin
        if crashed and origin is not None:
            self._budget.charge(origin.payer)

    async def _perform_unwatched(self, run: Run) -> None:
        with suppress(PorticoError):  # the run has it
            await self._perform(run)

    # --- inside: stored runs ------------------------------------------------------------------------------------------

    async def _accept(self, call: Call) -> Run:
        try:
            return await self._accept_or_replay(call)
        except Exception as error:
            if self.meter is not None and not call.replayed:
                self.meter.rejected(call, error)
            raise

    async def _accept_or_replay(self, call: Call) -> Run:
        scope = scope_of(call)
        known = self._known(call, scope)
        if known is not None:
            return await self._replay(call, known)
        try:
            run = self._admit_stored(call, scope)
        except Refused:  # what would be refused if it were new may have come before
            known = await self._stored_before(call, scope)
            if known is None:
                raise
            return await self._replay(call, known)
        if not await run.accepted():
            return await self._replay(call, run)
        call.run = run
        if self.meter is not None:
            tally = self.meter.of(run.agent, run.operation)
            tally.stored += 1
            tally.sent += call.one_way
        return run

    def _admit_stored(self, call: Call, scope: bytes | None) -> Run:
        """Admit, deliver and store; its handling waits for the latter. The order in the mailbox is the order in the store."""
        self._let_in(call)
        if call.run_id is not None and self.book.plain.find(call.run_id) is not None:
            raise KeyReused(f"The run id {call.run_id!r}")
        contract = call.endpoint.operation.contract
        local = contract.accept(call.payload, call.raw) if contract.typed_request else None
        record = self._record(call, keyed=scope is not None)
        message = self.book.message_of(record, record.timeout)
        message.payload, message.local = call.payload, local
        if message.origin is not None:
            message.origin.request_id = call.request_id
        run = self.book.open(record, message, scope=scope)
        run.contract = contract
        run.answerable, run.on_wait = call.answerable, call.on_wait
        run.await_acceptance()
        delivery = run.delivery
        assert delivery is not None  # noqa: S101  # `open` has made it
        if call.timing is not None:
            delivery = run.delivery = TimedDelivery(message, delivery.future, delivery.journal, call.one_way, call.timing)
        try:
            if call.due is None:
                self._router.deliver(delivery)
                self._router.deadlines.add(delivery)
            change = AcceptRun(record, scope, self.book.clock.time() + KEPT)
            self.book.store.submit((change,), partial(self._is_accepted, run))
        except BaseException as error:
            self._is_refused(run, error)
            raise
        return run

    def _record(self, call: Call, *, keyed: bool) -> RunRecord:
        """What is stored of a call. Raises `InvalidPayload`."""
        endpoint = call.endpoint
        operation = endpoint.operation
        payload, masked = operation.contract.without_secrets(call.payload)
        created = self.book.clock.time()
        callback = None if call.callback_url is None else Callback(url=call.callback_url, next_at=created)
        return RunRecord(
            run_id=call.run_id or new_id(),
            agent=endpoint.agent,
            operation=operation.name,
            payload=payload,
            principal=call.principal,
            address=call.address,
            one_way=call.one_way,
            once=operation.idempotent is False,
            redacted=masked,
            timeout=RUN_TIMEOUT if call.timeout is None else call.timeout,
            created=created,
            due=call.due,
            traceparent=call.traceparent,
            metadata=call.metadata,
            redrive_of=call.redrive_of,
            callback=callback,
            fingerprint=fingerprint_of(call) if keyed or call.run_id is not None else None,
        )

    def _is_accepted(self, run: Run, error: Exception | None) -> None:
        """The store has spoken. What is accepted is seen through, whether or not its caller still waits for that."""
        if error is not None:
            self._is_refused(run, error)
            return
        if run.record is not None and run.record.due is not None:
            self.book.schedule(run, run.record.due)
        run.is_accepted(None)

    def _is_refused(self, run: Run, error: BaseException) -> None:
        delivery = run.delivery
        if delivery is not None:
            self._router.deadlines.discard(delivery)
            delivery.future, delivery.dropped = None, True  # nobody waits for it, and it is not handled
        self.book.close(run)
        run.is_accepted(error if isinstance(error, Exception) else Cancelled())

    def _known(self, call: Call, scope: bytes | None) -> Run | None:
        """The living run of the same call."""
        run = self.book.keyed.get(scope) if scope is not None else None
        return run or (self.book.live.get(call.run_id) if call.run_id is not None else None)

    async def _stored_before(self, call: Call, scope: bytes | None) -> Run | None:
        """The run of the same call, where that is in the store."""
        record = await self.book.store.run_of_key(scope) if scope is not None else None
        if record is None and call.run_id is not None:
            record = await self.book.store.run(call.run_id)
        return None if record is None else self.book.run_of(record)

    async def _stored(self, run_id: str) -> Run:
        record = await self.book.store.run(run_id)
        if record is None:
            raise Cancelled("The first call with this key is kept no more: send it again.")
        return self.book.run_of(record)

    async def _replay(self, call: Call, run: Run) -> Run:
        """The same call came before. Raises `KeyReused` where it was another one, and what that one was refused with."""
        if not await run.accepted():
            if not isinstance(run.refusal, RunExists):
                raise run.refusal or Cancelled()
            run = await self._stored(run.refusal.run_id)
        fingerprint = run.record.fingerprint if run.record is not None else None
        if fingerprint != fingerprint_of(call) or run.principal != call.principal:
            what = f"The run id {call.run_id!r}" if call.run_id is not None else f"The idempotency key {call.idempotency_key!r}"
            raise KeyReused(what)
        call.run, call.replayed = run, True
        return run


def _reply(answer: Any) -> Message:
    """What came out of the interceptors of an ask: what the agent replied, or a payload of their own."""
    return answer if isinstance(answer, Message) else new_reply(answer, "")
