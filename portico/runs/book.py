"""RunBook: all runs of one runtime: those that live, in memory, and those that are stored.

One per runtime, however many dispatchers it has. Above: the dispatcher, which admits calls, and the handles of runs. Below: the
kernel, which delivers, and a `RunStore`. It sees every stored run to its end, also those of an earlier life of the program.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from functools import partial
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, cast

from portico.errors import (
    AgentCrashed,
    Interrupted,
    InvalidReply,
    NotWaiting,
    PorticoError,
    ProcessExited,
    RuntimeStopped,
    StoreError,
    StoreUnavailable,
    UnknownAgent,
    UnknownRun,
)
from portico.kernel.clock import sleep, timeout
from portico.kernel.delivery import new_delivery
from portico.kernel.messages import Origin, new_id, new_message
from portico.operations.operation import Operation
from portico.runs import waiting
from portico.runs.commit import StoreCommit
from portico.runs.dead_letters import DeadLetters
from portico.runs.ending import Ending
from portico.runs.event import EventName
from portico.runs.failure import stored
from portico.runs.ledger import UsageLedger
from portico.runs.memory_store import MemoryRunStore
from portico.runs.record import RunRecord
from portico.runs.records import RunRecords
from portico.runs.run import Run, status_of
from portico.runs.sinks import Sinks
from portico.runs.status import RunStatus
from portico.runs.store import AcceptRun, AppendEvents, BeginRun, EndRun, ParkRun, QueueRun, RunQuery, StoreStep, StoreSuspension

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from portico.kernel.delivery import Delivery
    from portico.kernel.detours import Parked, Transferred
    from portico.kernel.messages import Message
    from portico.kernel.protocols import Ended, Lineage, WatchesCalls
    from portico.kernel.runtime import Runtime
    from portico.runs.callback import Callback
    from portico.runs.event import Event
    from portico.runs.store import Change, Retention, RunStore

logger = logging.getLogger("portico.runs")

BEGUN_WITHIN: Final = 0.01
"""Seconds after which is stored that a handling has begun."""

AGAIN_AFTER: Final = 1.0
"""Seconds after which is handled again what could not be stored."""

RETAIN_EVERY: Final = 300.0
"""Seconds between two looks for what is kept no longer."""

MOST_ATTEMPTS: Final = 20
"""How often a handling may begin that never ends because the program does: one that ends the program would do so for ever."""

ACCEPTED: Final = "run.accepted"
"""The first step of a stored run: it is stored."""

PATIENCE: Final = 5.0
"""Seconds that who cancels a run waits for the store."""

TRY_EVERY: Final = 2.0
"""Seconds between two attempts to write, while the store fails."""

PROBE: Final = "portico.probe"
"""A name that no process has."""

GOES_ON: Final = "The gateway shut down before there was a reply. The run is stored, and goes on under its id at the next start."
"""What who waits for a stored run reads when the program ends."""

LOST_SECRETS: Final = "Its request had secret fields, which are never stored, and the program that knew them has ended."
"""Why a run is not handled in a later life of the program."""


class RunBook:
    """The runs of `runtime`. Get it with `book_of`."""

    def __init__(self, runtime: Runtime) -> None:
        commit = runtime.services.commit
        self.runtime = runtime
        self.clock = runtime.router.clock
        self.store: RunStore = commit.store if isinstance(commit, StoreCommit) else MemoryRunStore()
        """Where runs are stored."""
        self.plain = RunRecords()
        """The plain asks, which are only remembered."""
        self.on_failure: list[Callable[[Delivery, PorticoError], object]] = []
        """Who is told of each stored run that fails."""
        self.on_end: list[Callable[[Run], object]] = []
        """Who is told of each stored run that has ended, however it did."""
        self.on_step: list[Callable[[str, Run], object]] = []
        """Who is told of each step of a stored run, with its name: `run.accepted`, or an event's."""
        self.on_callback: list[Callable[[str, Callback], object]] = []
        """Who is told of each run with a callback that has ended, once its end is stored."""
        self.calling_back: set[str] = set()
        """The runs whose callback is under way, by whichever gateway of this runtime."""
        self.live: dict[str, Run] = {}
        """The stored runs that have not ended, by id."""
        self.keyed: dict[bytes, Run] = {}
        """Those that live under an idempotency key, by its scope."""
        self.dead_letters = DeadLetters(self)
        self.sinks = Sinks(runtime.services.sinks)
        """Who else takes events and usage."""
        self.ledger = UsageLedger(self, self.sinks)
        """What calls of models took."""
        self._router = runtime.router
        self._commit = commit if isinstance(commit, StoreCommit) else None
        self._recovered = False
        self._unflushed: set[Run] = set()
        self._begun: dict[str, BeginRun] = {}
        runtime.services.buried = self.dead_letters.bury
        runtime.services.listeners.append(cast("WatchesCalls", self.ledger))

    # --- storing ------------------------------------------------------------------------------------------------------

    def submit(self, *changes: Change, ended: Callable[[Exception | None], object] | None = None) -> None:
        """Store something that nobody waits for; where that cannot be, the log says so. `ended` is told instead of the log."""
        told = ended or _logged
        try:
            self.store.submit(changes, told)
        except PorticoError as error:
            told(error)

    async def keep(self, *changes: Change) -> None:
        """Store something, and wait until it is. Raises what was in the way."""
        done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def ended(error: Exception | None) -> None:
            if not done.done():
                done.set_result(error)

        self.store.submit(changes, ended)
        error = await done
        if error is not None:
            raise error

    def begin_soon(self, begun: BeginRun) -> None:
        """Store that a handling begins, unless it is over before: most are, and the end says the same.

        A kill within that time leaves the attempt uncounted, and nothing else: what must not begin twice is stored at once.
        """
        if not self._begun:
            self.clock.call_at(self.clock.now() + BEGUN_WITHIN, self._store_beginnings)
        self._begun[begun.run_id] = begun

    def has_begun(self, run: Run) -> None:
        """What is stored next of a run must come after that it has begun, or says the same.

        A run that is stored as queued has neither events nor steps: a later life of the program does not look for any.
        """
        begun = self._begun.pop(run.run_id, None)
        if begun is not None and not run.sealed:
            self.submit(begun)

    def _store_beginnings(self) -> None:
        beginnings, self._begun = self._begun, {}
        for begun in beginnings.values():
            self.submit(begun)

    def commit(self, name: str, state: Mapping[str, Any] | None, changes: Sequence[Change], ended: Ended, lineage: Lineage) -> None:
        """Store the state of a process, and what else its handling leaves behind, as one transaction."""
        if self._commit is not None:
            self._commit.submit(name, state, tuple(changes), ended, lineage)
            return
        if state is not None and self.runtime.services.commit is not None:  # states are in memory, as the runs are
            self.runtime.services.commit.commit(name, state, _logged, lineage)
        self.store.submit(changes, ended, lineage)

    def flush_soon(self, run: Run) -> None:
        """Store the new events of a run, together with those that come right after."""
        if not self._unflushed:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unflushed.add(run)

    def _flush(self) -> None:
        runs, self._unflushed = self._unflushed, set()
        for run in runs:
            events = run.unsubmitted()
            if events and not run.done:
                self.has_begun(run)
                ended = partial(run.flushed, events[0].seq, events[-1].seq)
                try:
                    self.store.submit((AppendEvents(run.run_id, events),), ended)
                except PorticoError as error:
                    ended(error)
                except ValueError as error:
                    logger.error("an event of run %s is not JSON-able, and no reader sees it: %s", run.run_id, error)  # noqa: TRY400  # one line says it all

    # --- accepting ----------------------------------------------------------------------------------------------------

    def open(self, record: RunRecord, message: Message, *, scope: bytes | None = None) -> Run:
        """A new stored run that lives from now on. It is neither stored nor delivered yet."""
        run = Run(record.agent, record.operation, record.principal, self, record)
        run.delivery = new_delivery(message, Ending(run, self), run.execution, record.one_way)
        self.live[run.run_id] = run
        run.scope = scope
        if scope is not None:
            self.keyed[scope] = run
        return run

    def close(self, run: Run) -> None:
        """It lives no more: it has ended, or was never accepted."""
        if self.live.get(run.run_id) is run:
            del self.live[run.run_id]
        if run.scope is not None and self.keyed.get(run.scope) is run:
            del self.keyed[run.scope]
        if run.timer is not None:
            run.timer.cancel()
            run.timer = None

    async def adopt(self, run: Run, record: RunRecord) -> None:
        """A plain ask that is under way is stored from now on, with what it has told, computed and been answered so far.

        Its handling goes on as it began: the kernel hears nothing of this. Whoever awaits its end must `conclude` it.

        Raises:
            StoreUnavailable: it could not be stored, and is still a plain ask.
        """
        self.plain.remove(run)
        run.take_on(record)
        self.live[run.run_id] = run
        changes: list[Change] = [AcceptRun(record)]
        if run.status is not RunStatus.QUEUED:
            changes.append(BeginRun(run.run_id, run.attempts, self.clock.time()))
        events = run.unsubmitted()
        changes.append(AppendEvents(run.run_id, events))
        changes += [StoreStep(run.run_id, key, value) for key, value in run.steps.items() if key not in run.secret_answers]
        if run.waiting is not None:
            changes.append(ParkRun(run.run_id, run.waiting))
        last = run.last_seq
        try:
            await self.keep(*changes)
        except (PorticoError, ValueError) as error:
            self.live.pop(run.run_id, None)
            run.give_back()
            self.plain.add(run)
            raise error if isinstance(error, PorticoError) else StoreUnavailable(str(error)) from error
        run.show(last)
        self.tell_step(ACCEPTED, run)

    async def conclude(self, run: Run, reply: Message) -> None:
        """A run that was adopted has its reply. Nobody is told before that is stored."""
        end = self.end_of(run, reply)
        run.sealed = True
        while run.stored:
            try:
                await self.keep(AppendEvents(run.run_id, run.unseen()), end)
            except ValueError as error:
                self.failed(run, InvalidReply.not_json(run.agent, run.operation, error))
                return
            except PorticoError as trouble:
                logger.error("the reply of run %s could not be stored, and is tried again: %s", run.run_id, trouble)  # noqa: TRY400  # one line says it all
                await sleep(self.clock, AGAIN_AFTER)
            else:
                self.succeeded(run, reply)
                return
        run.finish(reply, None)  # it could not be adopted after all

    def message_of(self, record: RunRecord, timeout: float) -> Message:
        """The message that a run is delivered as."""
        message = new_message(
            record.operation,
            record.payload,
            "",
            record.agent,
            None,
            self.clock.now() + timeout,
            Origin(record.run_id, record.principal, record.address),
            record.traceparent,
        )
        message.id = record.run_id
        message.attempt = _attempts_before(record)
        message.priority = record.priority
        return message

    def child(self, parent: Run, message: Message) -> Run:
        """The run of what a durable handler has sent. It is stored with the handler's commit."""
        record = RunRecord(
            run_id=new_id(),
            agent=message.recipient,
            operation=message.type,
            payload=message.payload,
            principal=parent.principal,
            address=parent.record.address if parent.record is not None else None,
            parent=parent.run_id,
            one_way=True,
            once=self.once(message.recipient, message.type),
            priority=message.priority,
            timeout=message.ttl or _timeout_of_children(parent),
            created=self.clock.time(),
            traceparent=message.traceparent,
        )
        record = self.without_secrets(record)
        run = Run(record.agent, record.operation, record.principal, self, record)
        message.id = run.run_id
        if message.deadline is None:
            message.deadline = self.clock.now() + record.timeout
        message.origin = message.origin or Origin(run.run_id, run.principal)
        run.delivery = new_delivery(message, Ending(run, self), run.execution, True)
        return run

    def without_secrets(self, record: RunRecord) -> RunRecord:
        """A record as it may be stored."""
        operation = self.operation(record.agent, record.operation)
        if operation is None:
            return record
        payload, masked = operation.contract.without_secrets(record.payload)
        return replace(record, payload=payload, redacted=True) if masked else record

    def operation(self, agent: str, message_type: str) -> Operation | None:
        """What an agent is asked, where it has a contract."""
        operation = self.runtime.operations_of(agent).get(message_type)
        return operation if isinstance(operation, Operation) else None

    def once(self, agent: str, message_type: str) -> bool:
        """Whether an operation says `idempotent=False`."""
        operation = self.operation(agent, message_type)
        return operation is not None and operation.idempotent is False

    def launch(self, run: Run) -> None:
        """Deliver a run that is stored: no bound applies, since it was accepted."""
        delivery = run.delivery
        if delivery is not None and self._router.tasks is not None:  # else the program ends; it is handled in the next life
            self.live[run.run_id] = run
            self.tell_step(ACCEPTED, run)
            self._deliver(delivery)

    def _deliver(self, delivery: Delivery) -> None:
        self._router.deadlines.add(delivery)
        self._router.put_accepted(delivery)

    def schedule(self, run: Run, due: float) -> None:
        """Deliver a stored run later: at `due` seconds since the epoch. Its time counts from then."""
        run.timer = self.clock.call_at(self.clock.now() + max(0.0, due - self.clock.time()), partial(self._is_due, run))

    def _is_due(self, run: Run) -> None:
        run.timer = None
        if run.delivery is not None and not run.delivery.finished and run.record is not None:
            run.delivery.message.deadline = self.clock.now() + run.record.timeout
            self._deliver(run.delivery)

    # --- seeing it through --------------------------------------------------------------------------------------------

    def succeeded(self, run: Run, reply: Message) -> None:
        """A run has its reply, which its handler's commit has stored."""
        self._is_over(run)
        run.finish(reply, None)
        self._tell_end(run)

    def failed(self, run: Run, error: BaseException) -> None:
        """A run has ended otherwise: nobody knows before that is stored too."""
        delivery = run.delivery
        self._is_over(run)
        if not isinstance(error, PorticoError) or self._router.tasks is None or self._is_left(error):
            run.finish(None, Interrupted(GOES_ON) if self.store.durable else Interrupted())
            return
        if delivery is not None:
            for listener in self.on_failure:
                listener(delivery, error)
        self.live[run.run_id] = run
        storing = self._fail(run, error)
        try:
            self._router.start_task(storing, run.run_id)
        except RuntimeError:  # the runtime's tasks are being cancelled: it ends in the next life
            storing.close()
            run.finish(None, Interrupted())

    def _is_over(self, run: Run) -> None:
        if run.delivery is not None:
            self._router.deadlines.discard(run.delivery)
        self.close(run)

    def _is_left(self, error: PorticoError) -> bool:
        """Whether a run has not ended at all, but the program does: then it is handled in the next life."""
        return self._router.stopping and isinstance(error, ProcessExited | RuntimeStopped | Interrupted)

    async def _fail(self, run: Run, error: PorticoError) -> None:
        run.ends_at = self.clock.time()
        end = EndRun(
            run.run_id,
            status_of(error),
            run.ends_at,
            run.attempts,
            error=stored(error),
            last_seq=run.last_seq,
            dead=self._dead(run, error),
        )
        run.sealed = True
        self.has_begun(run)
        while run.stored and not await self._is_kept(run, end):  # nobody is told of an end that may still become another
            await sleep(self.clock, AGAIN_AFTER)
        self.close(run)
        run.finish(None, error)
        if end.dead is not None:
            self.dead_letters.count(run.agent)
        self._tell_end(run)

    def tell_step(self, name: str, run: Run) -> None:
        """A stored run has taken a step."""
        for listener in self.on_step:
            listener(name, run)

    def _tell_end(self, run: Run) -> None:
        self.tell_step(f"run.{run.status.value}", run)
        for listener in self.on_end:
            listener(run)
        self._tell_of_callback(run.record)

    def _tell_of_callback(self, record: RunRecord | None) -> None:
        if record is not None and record.callback is not None:
            for listener in self.on_callback:
                listener(record.run_id, record.callback)

    async def _is_kept(self, run: Run, end: EndRun) -> bool:
        try:
            await self.keep(AppendEvents(run.run_id, run.unseen()), end)
        except (PorticoError, ValueError) as trouble:
            logger.error("the end of run %s could not be stored, and is tried again: %s", run.run_id, trouble)  # noqa: TRY400  # one line says it all
            return False
        return True

    def _dead(self, run: Run, error: PorticoError) -> str | None:
        """Why a failed run is a dead letter: its handling was given up, or nobody else would hear of its failure."""
        one_way = run.record is not None and run.record.one_way
        status = status_of(error)
        given_up = isinstance(error, AgentCrashed | ProcessExited | Interrupted | UnknownAgent)
        if status is RunStatus.CANCELLED or not (given_up or one_way):
            return None
        return str(error)

    def end_of(self, run: Run, reply: Message) -> EndRun:
        """The end of a run that has succeeded."""
        output = reply.payload
        if run.contract is None:
            operation = self.operation(run.agent, run.operation)
            run.contract = operation.contract if operation is not None else None
        if run.contract is not None:
            output, _ = run.contract.reply_without_secrets(output)
        run.ends_at = self.clock.time()
        return EndRun(
            run.run_id,
            RunStatus.SUCCEEDED,
            run.ends_at,
            run.attempts,
            output,
            reply.meta,
            last_seq=run.last_seq,
        )

    def goes_on(self, run: Run, transferred: Transferred) -> QueueRun:
        """That another agent goes on with a run, as it may be stored."""
        agent, operation, payload = transferred.agent, transferred.operation, transferred.payload
        found = self.operation(agent, operation)
        payload, masked = found.contract.without_secrets(payload) if found is not None else (payload, False)
        return QueueRun(run.run_id, agent, operation, payload, self.once(agent, operation), masked)

    def has_secrets(self, agent: str, message_type: str, *, request: Any = None, reply: Any = None) -> bool:
        """Whether a request or a reply has secret fields, by the contract of the operation."""
        found = self.operation(agent, message_type)
        if found is None:
            return False
        return found.contract.without_secrets(request)[1] or found.contract.reply_without_secrets(reply)[1]

    def again(self, run: Run, delivery: Delivery) -> None:
        """What a handling left behind could not be stored: it is handled again, a little later."""
        if delivery is not run.delivery:
            delivery.fail(StoreUnavailable(self.store.failure or "what this call left behind could not be stored"))
        elif run.record is not None and run.record.once:
            delivery.fail(Interrupted("It was handled, and what came of that could not be stored; it must not be handled twice."))
        elif not delivery.finished:
            self.clock.call_at(self.clock.now() + AGAIN_AFTER, partial(self._router.put_accepted, delivery))

    # --- waiting ------------------------------------------------------------------------------------------------------

    def park(self, run: Run, parked: Parked) -> None:
        """A run waits: nobody holds it, and its deadline stands still."""
        delivery, waits_for = run.delivery, parked.waiting
        if delivery is None or delivery.finished:
            return
        run.waiting, run.check = waits_for, parked.check
        run.parked_at = self.clock.now()
        self._router.deadlines.discard(delivery)
        if waits_for["kind"] == waiting.INPUT:
            run.tell(EventName.WAITING, {key: waits_for.get(key) for key in ("prompt", "schema", "until")})
        if run.stored:
            self.has_begun(run)
            run.move(RunStatus.WAITING)
            try:
                self.store.submit((AppendEvents(run.run_id, run.unseen()), ParkRun(run.run_id, waits_for)), _shown_by(run))
            except (PorticoError, ValueError) as error:
                delivery.fail(error if isinstance(error, PorticoError) else StoreUnavailable(str(error)))
                return
        self._await_time(run)
        if run.on_wait is not None and waits_for["kind"] == waiting.INPUT:
            run.on_wait(run)

    def stop_the_clock(self, delivery: Delivery) -> None:
        """The deadline of a delivery in hand stands still."""
        self._router.deadlines.discard(delivery)

    def go_on_with_the_clock(self, delivery: Delivery, stood: float) -> None:
        """It counts again, `stood` seconds later."""
        if delivery.message.deadline is not None:
            delivery.message.deadline += stood
            self._router.deadlines.add(delivery)

    def _await_time(self, run: Run) -> None:
        until = run.waiting.get("until") if run.waiting is not None else None
        if until is not None and run.waiting is not None:
            left = max(0.0, until - self.clock.time())
            run.timer = self.clock.call_at(self.clock.now() + left, partial(self._time_is_over, run, run.waiting))

    def _time_is_over(self, run: Run, waits_for: Mapping[str, Any]) -> None:
        run.timer = None
        if run.waiting is waits_for:
            self._router.start_task(self._go_on_in_time(run, waits_for), f"{run.run_id}/time")

    async def _go_on_in_time(self, run: Run, waits_for: Mapping[str, Any]) -> None:
        try:
            await self._go_on(run, waiting.timed_out(waits_for))
        except PorticoError:
            run.timer = self.clock.call_at(self.clock.now() + AGAIN_AFTER, partial(self._time_is_over, run, waits_for))

    async def answer(self, run: Run, value: Any) -> None:
        """Give a run the input that it waits for.

        Raises:
            NotWaiting: it waits for none.
            ContractViolation: that is not what it waits for.
            StoreUnavailable: the answer could not be stored; the run still waits.
        """
        self._refuse_unasked(run)
        if run.in_place is not None and value is None:  # who waits in place can be declined so
            await self.decline(run, {waiting.SOLE: "decline"})
            return
        waiting.check_input(run.waiting or {}, value)
        if run.check is not None:
            run.check(value)
        await self._is_told(run, waiting.answered(value))

    async def decline(self, run: Run, actions: Mapping[str, str]) -> None:
        """Nobody will answer a run: its handler gets `InputDeclined`. `actions`: by the names of its questions, how that was said.

        Raises:
            NotWaiting: it waits for no input.
            StoreUnavailable: that could not be stored; the run still waits.
        """
        self._refuse_unasked(run)
        await self._is_told(run, waiting.declined(actions))

    async def _is_told(self, run: Run, value: Mapping[str, Any]) -> None:
        """Somebody has answered, or declined to."""
        if run.in_place is None:
            await self._go_on(run, value)
            return
        run.waiting = None  # only the first one counts
        if not run.in_place.done():
            run.in_place.set_result(value)

    async def keep_responses(self, run: Run, responses: Mapping[str, Any]) -> None:
        """Keep what was answered of several questions until the rest is, as `waiting["responses"]`. Replaces what was kept before.

        Where a question has secret fields, they are kept in memory only.

        Raises:
            NotWaiting: it waits for no input.
            StoreUnavailable: that could not be stored.
        """
        self._refuse_unasked(run)
        waits_for = cast("dict[str, Any]", run.waiting)
        waits_for["responses"] = dict(responses)  # in place: it is still the same wait
        if run.stored:
            await self.keep(ParkRun(run.run_id, waiting.without_secret_responses(waits_for)))

    def _refuse_unasked(self, run: Run) -> None:
        over = run.delivery is None or run.delivery.finished
        if run.waiting is None or run.waiting["kind"] != waiting.INPUT or over:
            raise NotWaiting(run.run_id, run.status.value)

    async def _go_on(self, run: Run, value: Mapping[str, Any]) -> None:
        """What a run waited for has come: deliver it again."""
        waited_for, run.waiting = run.waiting, None
        delivery = run.delivery
        if waited_for is None or delivery is None:
            return
        key = waited_for["key"]
        run.steps[key] = value
        kept = waiting.without_secrets(waited_for, value)
        if kept is not value:
            run.secret_answers = run.secret_answers | {key}
        if run.timer is not None:
            run.timer.cancel()
            run.timer = None
        if run.stored:
            last = run.last_seq
            try:
                step = StoreStep(run.run_id, key, kept)
                await self.keep(AppendEvents(run.run_id, run.unseen()), step, QueueRun(run.run_id))
            except BaseException:
                run.waiting = waited_for
                run.steps.pop(key, None)
                self._await_time(run)
                raise
            run.show(last)
        if delivery.finished or run.done:
            return
        if waited_for["kind"] == waiting.INPUT:
            run.tell(EventName.RESUMED, {"answered": "value" in value})
        if run.stored:
            run.move(RunStatus.QUEUED)
        message = delivery.message
        message.local = None  # the handler that has ended may have changed it
        if message.deadline is not None:
            message.deadline += self.clock.now() - run.parked_at
        self._deliver(delivery)

    async def cancel(self, run: Run) -> None:
        """Cancel a run: its handler, and what that waits for. One that has ended, or whose end is being stored, stays as it is.

        Raises:
            StoreUnavailable: that it was cancelled could not be stored yet; it will be when the store works again.
        """
        if run.done:
            return
        run.cancel()
        if run.stored:
            try:
                async with timeout(self.clock, PATIENCE):
                    await run.wait()
            except TimeoutError:
                raise StoreUnavailable(self.store.failure or "its end could not be stored yet") from None

    # --- after a restart of the program -------------------------------------------------------------------------------

    async def recover(self) -> int:
        """Take up what an earlier life of the program has left unfinished, in the order of acceptance. Only once.

        Returns how many runs it took up. Those that must not be handled twice, and may have been handled, fail.

        Raises:
            StoreError: the store cannot be read.
        """
        if self._recovered:
            return 0
        self._recovered = True
        try:
            return await self._recover()
        except StoreUnavailable as error:
            raise StoreError(self.store.where, error.reason) from error

    async def _recover(self) -> int:
        if self._commit is not None and self.store.durable:
            self._router.start_task(self._retain(self._commit.retention), "retention")
            self._router.start_task(self._try_the_disk(), "store")
        found = [record for record in await self.store.unfinished() if record.run_id not in self.live]
        runs: list[Run] = []
        for record in found:
            error = self._objection(record)
            if error is None:
                runs.append(await self._read(record))
            else:
                await self._give_up(record, error)
        for run in runs:  # all at once: what one of them sends must not come before what it had sent before
            self._take_up(run)
        return len(found)

    async def _retain(self, retention: Retention) -> None:
        """Remove now and then what is kept no longer."""
        while True:
            await sleep(self.clock, RETAIN_EVERY)
            try:
                removed = await self.store.prune(retention, self.clock.time())
            except PorticoError as error:
                logger.warning("retention could not remove anything: %s", error)
            else:
                if removed.runs or removed.payloads:
                    logger.info("retention removed %d runs, and what %d more were about", removed.runs, removed.payloads)

    async def _try_the_disk(self) -> None:
        """While the store fails, try now and then whether it works again: there may be no call that would."""
        failed = False
        while True:
            await sleep(self.clock, TRY_EVERY)
            if self.store.failure is not None:
                failed = True
                self.submit(StoreSuspension(PROBE, PROBE), StoreSuspension(PROBE, None))  # written, and leaves nothing behind
            elif failed:
                failed = False
                self._make_good()

    def _make_good(self) -> None:
        """The store works again: what the living runs told and used meanwhile, and that they wait, is stored now."""
        self.ledger.make_good()
        for run in list(self.live.values()):
            changes: list[Change] = []
            if unseen := run.unseen():
                changes.append(AppendEvents(run.run_id, unseen))
            if run.waiting is not None:
                changes.append(ParkRun(run.run_id, run.waiting))
            if changes and not run.sealed:
                with suppress(PorticoError, ValueError):
                    self.store.submit(changes, _shown_by(run))

    def _objection(self, record: RunRecord) -> PorticoError | None:
        """Why a run cannot be handled again; None where it can."""
        if record.redacted:
            return Interrupted(LOST_SECRETS)
        if record.once and record.status is RunStatus.RUNNING:
            return Interrupted("The program ended while this run was handled, and its operation must not be handled twice.")
        if record.status is RunStatus.RUNNING and record.attempts >= MOST_ATTEMPTS:
            return Interrupted(f"The program ended {record.attempts} times while this run was handled.")
        if self.runtime.find(record.agent) is None:
            return UnknownAgent(record.agent)
        return None

    async def _give_up(self, record: RunRecord, error: PorticoError) -> None:
        """A run of an earlier life ends here, as a dead letter."""
        events = await self._all_events(record.run_id)
        end = EndRun(
            record.run_id,
            RunStatus.FAILED,
            self.clock.time(),
            record.attempts,
            error=stored(error),
            last_seq=events[-1].seq if events else 1,
            dead=str(error),
        )
        self.submit(end, ended=partial(self._is_given_up, record))
        self.dead_letters.count(record.agent)
        logger.warning("run %s of %r ends: %s", record.run_id, record.agent, error)

    def _is_given_up(self, record: RunRecord, error: Exception | None) -> None:
        _logged(error)
        if error is None:
            self._tell_of_callback(record)

    async def _read(self, record: RunRecord) -> Run:
        run = self.open(record, self.message_of(record, record.timeout))
        if record.status is not RunStatus.QUEUED or record.attempts:
            run.resume_with(await self._all_events(record.run_id), await self.store.steps(record.run_id))
        return run

    def _take_up(self, run: Run) -> None:
        run.recovered = True
        delivery, record = run.delivery, run.record
        if delivery is None or record is None:
            return
        if record.status is RunStatus.WAITING:
            run.parked_at = self.clock.now()
            self._await_time(run)
            return
        if record.status is RunStatus.RUNNING:
            run.move(RunStatus.QUEUED)
        if record.due is not None and record.due > self.clock.time():
            self.schedule(run, record.due)
            return
        self._deliver(delivery)

    async def _all_events(self, run_id: str) -> list[Event]:
        events: list[Event] = []
        while more := await self.store.events(run_id, events[-1].seq if events else 0, 5000):
            events += more
        return events

    # --- finding ------------------------------------------------------------------------------------------------------

    def living(self, run_id: str) -> Run | None:
        """The run of that id, where it is in memory."""
        return self.live.get(run_id) or self.plain.find(run_id)

    def run_of(self, record: RunRecord) -> Run:
        """The run of a record: the one that lives, where it does."""
        return self.live.get(record.run_id) or Run(record.agent, record.operation, record.principal, self, record)

    async def find(self, run_id: str, principal: str | None, *, everyone: bool = False) -> Run:
        """The run of that id. Raises `UnknownRun` where it is not there or belongs to somebody else."""
        run = self.living(run_id)
        if run is None:
            record = await self.store.run(run_id)
            if record is not None:
                run = self.run_of(record)
        if run is None or not (everyone or run.principal == principal):
            raise UnknownRun(run_id)
        return run

    async def page(self, query: RunQuery) -> list[Run]:
        """At most `limit` runs, plain and stored, the newest first."""
        records = await self.store.runs(query)
        found = (self.run_of(record) for record in records)
        plain = (run for run in self.plain.newest_first() if _matches(run, query))
        both = merge(found, plain, key=lambda run: (run.created, run.run_id), reverse=True)
        return list(islice(both, query.limit))


def book_of(runtime: Runtime) -> RunBook:
    """The book of a runtime; made when it is first asked for."""
    book = runtime.services.runs
    if not isinstance(book, RunBook):
        book = runtime.services.runs = RunBook(runtime)
    return book


def _attempts_before(record: RunRecord) -> int:
    """How often the message of a run was delivered before. A handling that the program's end has cut short is one."""
    if record.status is RunStatus.RUNNING:
        return record.attempts
    return max(0, record.attempts - 1)


def _timeout_of_children(parent: Run) -> float:
    """Seconds that what a run has sent may take."""
    return max(3600.0, parent.record.timeout if parent.record is not None else 0.0)


def _matches(run: Run, query: RunQuery) -> bool:
    """Whether a plain ask is among what is looked for."""
    return (
        not query.dead
        and query.parent is None
        and (query.everyone or run.principal == query.principal)
        and (query.status is None or run.status is query.status)
        and (query.agent is None or run.agent == query.agent)
        and (query.prefix is None or run.run_id.startswith(query.prefix))
        and (query.before is None or (run.created, run.run_id) < query.before)
    )


def _shown_by(run: Run) -> Ended:
    last = run.last_seq

    def ended(error: Exception | None) -> None:
        if error is None:
            run.show(last)
        else:
            _logged(error)

    return ended


def _logged(error: Exception | None) -> None:
    if error is not None:
        logger.error("something could not be stored: %s", error)
