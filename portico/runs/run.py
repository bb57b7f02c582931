"""Run: a call while it lives: status, output or error, and its events. It outlives the connection; every face reads the same one.

Above: the dispatcher and the book make and finish it, faces read and follow it. Below: events, and what is stored of it. A plain
ask has nothing but this, in memory; any other run is stored as well, and is made again from that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic_core import from_json, to_json

from portico.errors import Cancelled, DeadlineExceeded, InvalidPayload
from portico.kernel.current import current
from portico.kernel.messages import new_id, new_reply
from portico.runs.event import TERMINAL, Event, EventName
from portico.runs.execution import Execution, source_of
from portico.runs.failure import restored, stored
from portico.runs.idempotency import digest_of
from portico.runs.replay import Replay
from portico.runs.status import RunStatus, step
from portico.runs.usage import merged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from portico.kernel.clock import Timer
    from portico.kernel.delivery import Delivery
    from portico.kernel.detours import Parked, Transferred
    from portico.kernel.messages import Message
    from portico.kernel.protocols import DurableJournal
    from portico.kernel.questions import Question
    from portico.operations.contract import Contract
    from portico.runs.book import RunBook
    from portico.runs.record import RunRecord
    from portico.runs.tally import Tally
    from portico.runs.usage import UsageRow

MAX_EVENTS = 10_000
"""How many events a run keeps in memory. Older ones are read from the store; of a plain ask they are gone, and readers are told."""

PAGE = 500
"""How many events are read from the store at a time."""

NONE: frozenset[str] = frozenset()
LABELS: Final = "labels"
"""The member of a run's metadata that holds its labels."""

_ENDS = {
    RunStatus.SUCCEEDED: EventName.SUCCEEDED,
    RunStatus.FAILED: EventName.FAILED,
    RunStatus.CANCELLED: EventName.CANCELLED,
    RunStatus.TIMED_OUT: EventName.TIMED_OUT,
}

_STEPS = {
    (RunStatus.QUEUED, RunStatus.RUNNING): EventName.STARTED,
    (RunStatus.RUNNING, RunStatus.WAITING): EventName.WAITING,
    (RunStatus.WAITING, RunStatus.QUEUED): EventName.RESUMED,
}
"""What is told of a step to who watches the whole gateway."""


class Run:
    """One call's record. For a plain ask, also the journal that its handlers write to."""

    __slots__ = (
        "_book",
        "_events",
        "_execution",
        "_nested",
        "_outcome",
        "_pending",
        "_replay",
        "_shown",
        "_status",
        "_steps",
        "_submitted",
        "_waiters",
        "agent",
        "answer",
        "answerable",
        "attempts",
        "check",
        "contract",
        "created",
        "delivery",
        "ends_at",
        "error",
        "finished",
        "in_place",
        "meta",
        "on_wait",
        "operation",
        "output",
        "parked_at",
        "principal",
        "record",
        "recovered",
        "run_id",
        "scope",
        "sealed",
        "secret_answers",
        "tally",
        "timer",
        "used",
        "waiting",
    )

    durable: DurableJournal | None = None
    """See `Journal.durable`: what the deliveries of a stored run carry is its `Execution`."""

    def __init__(self, agent: str, operation: str, principal: str | None, book: RunBook, record: RunRecord | None = None) -> None:
        # Plain data and few objects: thousands of runs are kept, and the garbage collector looks at each object again and again.
        self.agent = agent
        self.operation = operation
        self.principal = principal
        self.finished: float | None = None
        self.output: Any = None
        self.meta: Mapping[str, Any] | None = None
        self.error: BaseException | None = None
        self.attempts = 0
        self.delivery: Delivery | None = None
        self.tally: Tally | None = None
        """Where its end is counted, while somebody counts."""
        self.ends_at: float | None = None
        """When it ends, by what is stored of that."""
        self.waiting: Mapping[str, Any] | None = None
        self.in_place: asyncio.Future[Any] | None = None
        """Where its answer goes while it waits in place, as `runs/in_place.py` has it."""
        self.check: Callable[[Any], object] | None = None
        """Refuses an input that is none, where more is known than its JSON Schema."""
        self.answerable: frozenset[str] | None = None
        """Which kinds of questions its caller's program answers; None where that is not known."""
        self.on_wait: Callable[[Run], object] | None = None
        """See `Call.on_wait`."""
        self.answer: asyncio.Future[Message] | None = None
        """What interceptors make of its end, for whoever waits for that; None where there are none."""
        self.secret_answers: frozenset[str] = NONE
        """The keys of those answers among its steps that are never stored."""
        self.parked_at = 0.0
        self.timer: Timer | None = None
        self.used: Sequence[UsageRow] = ()
        """What models took in it since it is in memory."""
        self.record = record
        """What was stored of it when it was accepted, or read; None for a plain ask."""
        self._book = book
        self._events: list[Event] | None = None
        self._waiters: dict[asyncio.Future[None], None] | None = None
        self._replay: Replay | None = None
        self._execution: Execution | None = None
        self._nested: dict[Delivery, Execution] | None = None
        self._steps: dict[str, Any] | None = None
        if record is None:
            self.run_id = new_id()
            self.created = time.time()
        else:
            self._take_on(record)

    def _take_on(self, record: RunRecord) -> None:
        self.run_id = record.run_id
        self.created = record.created
        self.attempts = record.attempts
        self.sealed = False
        """Whether its end is being stored: nothing more is added."""
        self.recovered = False
        """Whether an earlier life of the program has accepted it."""
        self.contract: Contract | None = None
        """What its operation takes and gives, once somebody has looked."""
        self.scope: bytes | None = None
        """Under which idempotency key it is found, while it lives."""
        self._status = record.status
        self._pending = False
        self._outcome: Exception | None = None
        self._shown = self._submitted = 1
        if record.finished is not None:
            self.finished = record.finished
            self.output, self.meta = record.output, record.meta
            self.error = restored(record.error) if record.error is not None else None
            self._shown = record.last_seq
        self.waiting = record.waiting

    def take_on(self, record: RunRecord) -> None:
        """A plain ask that is under way is a stored run from now on. What it has told so far is still to be stored."""
        status, attempts, waits_for = self.status, self.attempts, self.waiting
        if status is not RunStatus.QUEUED:
            attempts = max(1, attempts)
        self.record = record
        self._take_on(record)
        self._status, self.attempts, self.waiting = status, attempts, waits_for
        self._events = [replace(event, data=plain(event.data)) for event in self._begun_events()]

    def give_back(self) -> None:
        """It could not be stored, and is a plain ask again."""
        self.record = None

    @property
    def stored(self) -> bool:
        """Whether it is kept in a store."""
        return self.record is not None

    @property
    def status(self) -> RunStatus:
        """Where it is."""
        if self.record is not None or self.finished is not None:
            return self._status
        if self.waiting is not None:
            return RunStatus.WAITING
        delivery = self.delivery
        begun = delivery is not None and (delivery.holder is not None or delivery.message.attempt > 0)
        return RunStatus.RUNNING if begun else RunStatus.QUEUED

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.finished is not None

    @property
    def cancelled(self) -> bool:
        """Whether somebody cancelled it."""
        if self.finished is not None:
            return self._status is RunStatus.CANCELLED
        delivery = self.delivery
        return delivery is not None and delivery.dropped

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What its caller gave along."""
        return (self.record.metadata or {}) if self.record is not None else {}

    @property
    def labels(self) -> Mapping[str, str]:
        """What its caller labelled it with."""
        found: Any = self.metadata.get(LABELS)
        return labels_of(found) if found is not None else {}

    @property
    def usage(self) -> tuple[UsageRow, ...]:
        """What models took in it so far, in all attempts and nested asks."""
        return merged((*(self.record.usage if self.record is not None else ()), *self.used))

    def use(self, row: UsageRow) -> None:
        """A model was called in it."""
        self.used = merged((*self.used, row))

    @property
    def shown_output(self) -> Any:
        """The reply, without its secret fields where it is stored: those are for the caller alone."""
        if self.record is None or self.contract is None:
            return self.output
        return self.contract.reply_without_secrets(self.output)[0]

    @property
    def parent(self) -> str | None:
        """The run whose handler sent it."""
        return self.record.parent if self.record is not None else None

    @property
    def steps(self) -> dict[str, Any]:
        """What need not be computed again, by key."""
        if self._steps is None:
            self._steps = {}
        return self._steps

    @property
    def execution(self) -> Execution:
        """Its own handle."""
        if self._execution is None:
            self._execution = Execution(self, self._book)
        return self._execution

    # --- acceptance: of a stored run ----------------------------------------------------------------------------------

    def await_acceptance(self) -> None:
        """It was submitted, and is not yet stored."""
        self._pending = True

    def is_accepted(self, error: Exception | None) -> None:
        """It is stored, or (`error`) is not going to be."""
        self._outcome = error
        self._pending = False
        self._wake()
        if error is None:
            self._book.tell_step("run.accepted", self)

    async def accepted(self) -> bool:
        """Wait until it is stored. Returns whether it was."""
        while self._pending:
            await self._changed(self._is_pending)
        return self._outcome is None

    def _is_pending(self) -> bool:
        return self._pending

    @property
    def refusal(self) -> Exception | None:
        """Why it was not stored."""
        return self._outcome

    # --- writing ------------------------------------------------------------------------------------------------------

    def append(self, event_type: str, data: Any = None, source: str | None = None) -> None:
        """An event of a handler. One that the same handler emitted in an earlier attempt is not written twice."""
        if self.finished is not None or (self.record is not None and self.sealed):
            return
        if source is None:  # a plain ask, whose handlers write here directly
            source = source_of("")
            self._own()
        replay = self._replay
        if replay is None:
            replay = self._replay = Replay()
        known = replay.knows(source, event_type, data)
        if known:
            return
        if known is False:
            again = replay.turn()
            self._add(EventName.RESTARTED, {"attempt": self.attempts})
            for name, kind, earlier in again:
                replay.add(name, kind, earlier)
                self._add(kind, earlier, name)
        replay.add(source, event_type, data)
        self._add(event_type, data, source)

    def skip(self, source: str) -> None:
        """What that source emitted is not emitted again: its step, or its ask, is not repeated."""
        if self._replay is not None:
            self._replay.skip(source)

    def tell(self, event_type: str, data: Any = None) -> None:
        """An event of Portico's own."""
        if self.finished is None and not (self.record is not None and self.sealed):
            self._add(event_type, data)

    def _add(self, event_type: str, data: Any, source: str | None = None) -> None:
        events = self._begun_events()
        if self.record is not None:
            data = plain(data)
        event = Event(events[-1].seq + 1, event_type, data, time.time(), source)
        events.append(event)
        if self._book.sinks.want_events:
            self._book.sinks.happened(self, event)
        if len(events) > MAX_EVENTS:
            shown = events[-1].seq if self.record is None else self._shown
            del events[: min(MAX_EVENTS // 10, max(0, shown - events[0].seq))]  # never one that is not stored yet
        if self.record is None:
            self._wake()
        else:
            self._book.flush_soon(self)

    def rewind(self, attempts: int) -> None:
        """A handling begins, perhaps again."""
        self.attempts = attempts
        if self._replay is not None:
            self._replay.rewind()
        if self.record is not None and self._status is not RunStatus.RUNNING:
            self.move(RunStatus.RUNNING)

    def _own(self) -> Execution:
        """Of a plain ask: the handle of the delivery in hand, which is its own, or of something that was asked meanwhile."""
        delivery = current.get() or self.delivery
        own = self.execution
        if self.delivery is not None and own.notice(self.delivery):
            self.rewind(self.delivery.message.attempt + 1)
            self._nested = None  # what is asked now is asked anew, and counts from the beginning
        if delivery is None or delivery is self.delivery:
            return own
        nested = self._nested
        if nested is None:
            nested = self._nested = {}
        execution = nested.get(delivery)
        if execution is None:
            path = f"~{_described(delivery.message)}"  # in whatever order they come, the same ones find the same steps
            alike = sum(one.path.startswith(path) for one in nested.values())
            execution = nested[delivery] = Execution(self, self._book, f"{path}:{alike}")
        execution.notice(delivery)
        return execution

    def move(self, status: RunStatus) -> None:
        """Take a step. Raises `IllegalTransition` for one that there is not."""
        before, self._status = self._status, step(f"run {self.run_id}", self._status, status)
        self._wake()
        if self._book.on_step and (name := _STEPS.get((before, status))) is not None:
            self._book.tell_step(name, self)

    def goes_on_with(self, agent: str, operation: str) -> None:
        """Another agent goes on with a stored run: under its own names for its steps."""
        self.agent, self.operation = agent, operation
        self._replay = self.contract = None
        self.steps.clear()
        self.move(RunStatus.QUEUED)

    def finish(self, reply: Message | None, error: BaseException | None) -> None:
        """It has ended. Later ends are ignored."""
        if self.finished is not None:
            return
        self.finished = self.ends_at or time.time()
        self.error = error
        if reply is not None:
            self.output, self.meta = reply.payload, reply.meta
        if self.delivery is not None:
            self.attempts = max(self.attempts, self.delivery.message.attempt + 1)
            if self._book.sinks.want_events:
                self._begun_events()
            self.delivery = None
        self.waiting = self._nested = None
        self._status = status_of(error)
        if self._events is not None:
            self._write_end(self._events)
        if self.record is not None:
            self._shown = self.last_seq
            self._execution = None  # whose cycle with this only the garbage collector would end
        self._wake()

    def cancel(self, reason: str = "The run was cancelled.") -> None:
        """Cancel it: its handler, and what that waits for. Does nothing when it has ended, or its end is being stored."""
        delivery, error = self.delivery, Cancelled(reason)
        if delivery is not None and delivery.holder is not None and delivery.holder.final:
            return
        if self.record is None:
            self.finish(None, error)
        if delivery is not None:
            delivery.cancel(error)

    # --- storing: of a stored run -------------------------------------------------------------------------------------

    @property
    def last_seq(self) -> int:
        """The number of its last event."""
        if self._events is not None:
            return self._events[-1].seq
        return self._shown if self.record is not None else 1

    def unseen(self) -> list[Event]:
        """The events that are not known to be stored, apart from the first and the last, which every store knows."""
        return [event for event in self._events or () if event.seq > self._shown and event.type not in TERMINAL]

    def unsubmitted(self) -> list[Event]:
        """Those that were not even submitted. They are, now."""
        events = [event for event in self._events or () if event.seq > max(self._shown, self._submitted)]
        self._submitted = self.last_seq
        return events

    def flushed(self, first: int, last: int, error: Exception | None) -> None:
        """A batch of events is stored, or (`error`) could not be: then they are submitted again."""
        if error is not None:
            self._submitted = self._shown
        elif first <= self._shown + 1:
            self.show(last)

    def show(self, last: int) -> None:
        """Events are stored up to this one: readers may see them."""
        if last > self._shown:
            self._shown = last
            self._wake()

    def resume_with(self, events: list[Event], steps: dict[str, Any]) -> None:
        """What was stored of it in an earlier life of the program."""
        self._events = [Event(1, EventName.STARTED, self._beginning(), self.created), *events]
        self._shown = self._submitted = self._events[-1].seq
        self._replay = Replay(events)
        self._steps = steps

    # --- reading ------------------------------------------------------------------------------------------------------

    def backlog(self) -> list[Event]:
        """Its events in memory, the oldest first. The first and the last are made when somebody looks."""
        if self._events is None:
            events = self._begun_events()
            if self.finished is not None:
                self._write_end(events)
        return self._begun_events()

    async def follow(self, after: int = 0) -> AsyncIterator[Event]:
        """Its events with `seq` above `after`: the backlog, then live, until the last. A gap in `seq` means removed events."""
        last = after
        while True:
            more = await self.next_events(last)
            for event in more:
                last = event.seq
                yield event
                if event.type in TERMINAL:
                    return
            if not more:
                if self.is_over_at(last):
                    return
                await self._changed(partial(self.is_silent_after, last))

    def is_over_at(self, last: int) -> bool:
        """Whether no event comes after that number, ever."""
        return self.finished is not None and last >= self.last_visible

    def is_silent_after(self, last: int) -> bool:
        """Whether there is nothing to show beyond that number, yet."""
        return last >= self.last_visible and self.finished is None

    @property
    def last_visible(self) -> int:
        """The number of the last event that readers may see: one that is not stored could come again as another."""
        if self.finished is not None:
            return self._shown + 1 if self._events is None and self.record is not None else self.last_seq_with_end
        return self._shown if self.record is not None else self.last_seq

    @property
    def last_seq_with_end(self) -> int:
        """The number of the terminal event of a run that has ended."""
        return self.backlog()[-1].seq

    async def next_events(self, last: int) -> list[Event]:
        """Some events after that number, those that there are now: from memory, or from the store where they are older."""
        events = self._events
        if self.record is not None and self.finished is not None and events is None:
            return await self._stored_events(last)
        events = self.backlog()
        first = events[0].seq
        if last < 1 < first and self.record is not None:
            return [Event(1, EventName.STARTED, self._beginning(), self.created)]
        if self.record is not None and last + 1 < first:
            older = await self._book.store.events(self.run_id, last, PAGE)
            if older and older[0].seq < first:
                return [event for event in older if event.seq < first]
        return [event for event in events[max(0, last + 1 - first) :] if event.seq <= self.last_visible]

    async def _stored_events(self, last: int) -> list[Event]:
        """Of a run that ended before it was read: the first and the last event are in its record."""
        assert self.finished is not None  # noqa: S101  # the caller has looked
        if last < 1:
            return [Event(1, EventName.STARTED, self._beginning(), self.created)]
        end = self._shown + 1
        if last >= end:
            return []
        more = await self._book.store.events(self.run_id, last, PAGE) if last < self._shown else []
        return more or [Event(end, _ENDS[self._status], self._end(), self.finished)]

    async def wait(self) -> None:
        """Until it has ended."""
        while self.finished is None:
            await self._changed(lambda: self.finished is None)

    async def outcome(self) -> Message:
        """Wait for its end and return the reply. Raises what it ended with.

        Of a plain ask with interceptors around it, who has begun it gets what they make of that.
        """
        if self.answer is not None:
            return await asyncio.shield(self.answer)
        await self.wait()
        if self.error is not None:
            raise self.error
        reply = new_reply(self.output, self.agent)
        reply.attempt, reply.meta = max(0, self.attempts - 1), self.meta
        return reply

    # --- the handle of a plain ask ------------------------------------------------------------------------------------

    async def step(
        self, name: str, function: Callable[..., Any], *, retries: int, retry_delay: float, timeout: float | None, checkpoint: bool
    ) -> Any:
        """See `Context.step`."""
        return await self._own().step(
            name, function, retries=retries, retry_delay=retry_delay, timeout=timeout, checkpoint=checkpoint
        )

    async def wait_inputs(self, asked: Mapping[str, Question] | Question, *, timeout: float | None, default: Any) -> Any:
        """See `Journal.wait_inputs`."""
        return await self._own().wait_inputs(asked, timeout=timeout, default=default)

    async def wait_here(self, asked: Question, *, timeout: float | None) -> Any:
        """See `Journal.wait_here`."""
        return await self._own().wait_here(asked, timeout=timeout)

    async def sleep(self, seconds: float) -> None:
        """See `Context.sleep`."""
        await self._own().sleep(seconds)

    async def checkpoint(self, state: Any) -> None:
        """See `Context.checkpoint`."""
        await self._own().checkpoint(state)

    def get_state(self) -> Any:
        """See `Context.get_state`."""
        return self._own().get_state()

    def park(self, delivery: Delivery, parked: Parked) -> None:
        """See `Journal.park`."""
        if delivery is self.delivery:
            self._nested = None
            self.execution.rewind()
            if self._replay is not None:
                self._replay.rewind()
        self.execution.park(delivery, parked)

    def moves(self, delivery: Delivery, transferred: Transferred) -> None:
        """See `Journal.moves`."""
        if delivery is self.delivery:
            about = {"from": self.agent, "to": transferred.agent, "reason": transferred.reason}
            self.tell(EventName.TRANSFERRED, about)
            self.agent, self.operation = transferred.agent, transferred.operation
            self._replay = None
            self.execution.hop()
        elif self._nested is not None and delivery in self._nested:
            self._nested[delivery].hop()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _begun_events(self) -> list[Event]:
        if self._events is None:
            self._events = [Event(1, EventName.STARTED, self._beginning(), self.created)]
            if self._book.sinks.want_events and self.delivery is not None:
                self._book.sinks.happened(self, self._events[0])
        return self._events

    def _beginning(self) -> dict[str, Any]:
        return {"agent": self.agent, "operation": self.operation}

    def _end(self) -> dict[str, Any]:
        if self.error is None:
            return {"output": self.shown_output}
        error = stored(self.error)
        return {"slug": error["slug"], "detail": error["detail"]}

    def _write_end(self, events: list[Event]) -> None:
        if events[-1].type not in TERMINAL:
            event = Event(events[-1].seq + 1, _ENDS[self._status], self._end(), self.finished or time.time())
            events.append(event)
            if self._book.sinks.want_events:
                self._book.sinks.happened(self, event)

    async def news(self, last: int, waiting: Mapping[str, Any] | None) -> None:
        """Until there is an event after that number, or it waits for something else than that, or it has ended."""
        await self._changed(lambda: self.is_silent_after(last) and self.waiting is waiting)

    async def _changed(self, still: Callable[[], bool]) -> None:
        """Until something has changed; at once where `still` says that it has."""
        if not still():
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waken(waiter)
        try:
            await waiter
        finally:
            self.forget(waiter)

    def waken(self, waiter: asyncio.Future[None]) -> None:
        """Resolve a future at the next change, for who waits for other things too. `forget` it when it is not needed any more."""
        if self._waiters is None:
            self._waiters = {}
        self._waiters[waiter] = None

    def forget(self, waiter: asyncio.Future[None]) -> None:
        """Nobody waits for it any more."""
        if self._waiters is not None:
            self._waiters.pop(waiter, None)

    def stirred(self) -> None:
        """Something has changed that is no event: whoever waits for a change looks again."""
        self._wake()

    def _wake(self) -> None:
        if self._waiters is not None:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiters.clear()


def labels_of(found: Any) -> dict[str, str]:
    """The labels of a run's metadata; none where something else stands there."""
    if not isinstance(found, Mapping):
        return {}
    pairs = cast("Mapping[Any, Any]", found).items()
    return {key: value for key, value in pairs if isinstance(key, str) and isinstance(value, str)}


def plain(data: Any) -> Any:
    """The data of an event as JSON data of its own; what is none is told as its text."""
    try:
        return from_json(to_json(data, inf_nan_mode="null", bytes_mode="base64", fallback=str))
    except ValueError:
        return ascii(data)


def _described(message: Message) -> str:
    """Who was asked what."""
    try:
        digest = digest_of(message.payload, message.recipient).hex()
    except InvalidPayload:
        digest = ""
    return f"{message.recipient}:{message.type}:{digest}"


def status_of(error: BaseException | None) -> RunStatus:
    """The status that a run ends with."""
    if error is None:
        return RunStatus.SUCCEEDED
    if isinstance(error, DeadlineExceeded):
        return RunStatus.TIMED_OUT
    if isinstance(error, Cancelled | asyncio.CancelledError):
        return RunStatus.CANCELLED
    return RunStatus.FAILED
