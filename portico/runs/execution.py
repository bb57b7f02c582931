"""Execution: the journal that a handler's `Context` speaks to: what it need not do again, and what it must not do twice.

One for each run, and in a durable run one more for everything that its handlers ask. Above: the kernel's receiver and `Context`.
Below: the run, and the book, which knows the store.

What is handled again runs from its beginning. It finds its steps, answers and nested asks under the same names as before, since it
counts them in the order in which they come; what it sent is held back until its commit, and so was never sent before.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import from_json, to_json

from portico.errors import ContractViolation, Interrupted, PorticoError
from portico.kernel.clock import sleep
from portico.kernel.current import current
from portico.kernel.detours import Parked, Transferred
from portico.kernel.memory import copied
from portico.kernel.messages import Message
from portico.kernel.questions import Question
from portico.kernel.steps import StepCall, perform
from portico.runs.event import EventName
from portico.runs.idempotency import digest_of
from portico.runs.in_place import wait_here
from portico.runs.store import AcceptRun, AppendEvents, BeginRun, Change, StoreStep
from portico.runs.waiting import Several, answer_of, for_input, for_time, typed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from portico.kernel.delivery import Delivery
    from portico.kernel.protocols import Ended, Journal, Lineage
    from portico.runs.book import RunBook
    from portico.runs.run import Run

SHORT: Final = 1.0
"""Seconds up to which `ctx.sleep` waits in place: to come back costs more."""

LOST_SECRETS: Final = "A reply that it had got has secret fields, which are never stored, and the program that knew them has ended."
"""Why a run cannot be handled again in a later life of the program."""

CHECKPOINT: Final = "checkpoint"
"""The key of the last checkpoint among a run's steps. No other key is without a colon."""

_in_step: ContextVar[str | None] = ContextVar("portico_step", default=None)
"""The key of the step that is being computed: what that emits is not emitted again where the step is skipped."""


def source_of(path: str) -> str:
    """Under which source an event of a handling is remembered."""
    step = _in_step.get()
    return path if step is None else f"{path}!{step}"


class Execution:
    """See `protocols.Journal`."""

    __slots__ = ("_book", "_handling", "_hops", "_names", "_outbox", "_path", "_request", "run")

    def __init__(self, run: Run, book: RunBook, path: str = "", request: Mapping[str, Any] | None = None, hops: int = 0) -> None:
        """`path`: empty for the run itself, `2/1` for the first ask of its second ask. `request`: what is asked there.

        `hops`: how often another agent has gone on with that: each uses names of its own for its steps.
        """
        self.run = run
        self._book = book
        self._path = path
        self._request = request
        self._hops = hops
        self._handling: tuple[int, int] | None = None
        self._names: dict[str, int] = {}
        self._outbox: list[Message] = []

    @property
    def durable(self) -> Execution | None:
        """See `Journal.durable`."""
        return self if self.run.stored else None

    # --- what every run has -------------------------------------------------------------------------------------------

    @property
    def run_id(self) -> str:
        """See `Journal.run_id`."""
        return self.run.run_id

    @property
    def cancelled(self) -> bool:
        """See `Journal.cancelled`."""
        return self.run.cancelled

    @property
    def metadata(self) -> Mapping[str, Any]:
        """See `Journal.metadata`."""
        return self.run.metadata

    def append(self, event_type: str, data: Any = None) -> None:
        """See `Journal.append`."""
        self.run.append(event_type, data, source_of(self._place))

    async def step(
        self, name: str, function: Callable[..., Any], *, retries: int, retry_delay: float, timeout: float | None, checkpoint: bool
    ) -> Any:
        """See `Context.step`."""
        run, key = self.run, self._key("step", name)
        about = {"name": name, "key": f"{run.run_id}/{run.agent}/{key}"}
        if key in run.steps:
            run.skip(f"{source_of(self._place)}!{key}")
            run.tell(EventName.STEP_SKIPPED, about)
            return copied(run.steps[key])
        run.tell(EventName.STEP_STARTED, about)

        def retrying(attempt: int, error: Exception) -> None:
            run.tell(EventName.STEP_RETRYING, {**about, "attempt": attempt, "error": _sentence(error)})

        token = _in_step.set(key)
        try:
            result = await perform(
                self._book.clock,
                StepCall(name, about["key"], 0),
                function,
                retries=retries,
                retry_delay=retry_delay,
                limit=timeout,
                retrying=retrying,
            )
            value = _json(f"The result of step {name!r}", result)
        except Exception as error:
            run.tell(EventName.STEP_FAILED, {**about, "error": _sentence(error)})
            raise
        finally:
            _in_step.reset(token)
        run.tell(EventName.STEP_COMPLETED, about)
        if checkpoint:
            await self._keep(key, value)
        return copied(value)

    async def wait_inputs(self, asked: Mapping[str, Question] | Question, *, timeout: float | None, default: Any) -> Any:
        """See `Journal.wait_inputs`."""
        key = self._key("input", "")
        stored = self.run.steps.get(key)
        schema = asked.schema if isinstance(asked, Question) else Several({name: one.schema for name, one in asked.items()})
        if stored is not None and "secret" not in stored:
            prompt = asked.prompt if isinstance(asked, Question) else " ".join(one.prompt for one in asked.values())
            try:
                return answer_of(stored, prompt, schema)
            except ContractViolation as error:  # its JSON Schema let it pass, in an earlier life of the program
                self.run.tell(EventName.WAITING, {"prompt": prompt, "refused": error.detail})
        until = None if timeout is None else self._book.clock.time() + timeout
        raise Parked(for_input(key, asked, until, default), partial(typed, schema))

    @property
    def answerable(self) -> frozenset[str] | None:
        """See `Journal.answerable`."""
        return self.run.answerable

    async def wait_here(self, asked: Question, *, timeout: float | None) -> Any:
        """See `Journal.wait_here`."""
        deliveries = [delivery for delivery in {self.run.delivery, current.get()} if delivery is not None]
        return await wait_here(self._book, self.run, deliveries, asked, limit=timeout)

    async def sleep(self, seconds: float) -> None:
        """See `Context.sleep`."""
        key = self._key("sleep", "")
        if key in self.run.steps:
            return
        if seconds <= SHORT or not self.run.stored:
            await sleep(self._book.clock, seconds)
        else:
            raise Parked(for_time(key, self._book.clock.time() + seconds))

    async def checkpoint(self, state: Any) -> None:
        """See `Context.checkpoint`."""
        value = _json("A checkpoint", state)
        self.run.tell(EventName.CHECKPOINT, None)
        await self._keep(CHECKPOINT, value)

    def get_state(self) -> Any:
        """See `Context.get_state`."""
        return copied(self.run.steps.get(CHECKPOINT))

    def park(self, delivery: Delivery, parked: Parked) -> None:
        """See `Journal.park`. What is asked in a run waits together with whoever asked."""
        if delivery is self.run.delivery:
            self._book.park(self.run, parked)
        else:
            delivery.part(parked)

    # --- what a durable run has ---------------------------------------------------------------------------------------

    async def begin(self, delivery: Delivery, *, once: bool) -> bool:
        """See `Journal.begin`."""
        self.rewind()
        if self._path:
            return True
        run = self.run
        if not await run.accepted():
            return False
        run.rewind(delivery.message.attempt + 1)
        begun = BeginRun(run.run_id, run.attempts, self._book.clock.time())
        if once or run.recovered:  # what ends the program at once must not do so for ever
            await self._book.keep(begun)
        else:
            self._book.begin_soon(begun)
        return not run.done

    def commit(
        self,
        name: str,
        state: Mapping[str, Any] | None,
        reply: Message | None,
        ended: Ended,
        lineage: Lineage,
        transferred: Transferred | None = None,
    ) -> None:
        """See `Journal.commit`."""
        run, book = self.run, self._book
        children = [book.child(run, message) for message in self._outbox]
        changes: list[Change] = [AcceptRun(child.record) for child in children if child.record is not None]
        answer = None
        if self._path:
            if (changes or state is not None) and (reply is not None or transferred is not None):
                book.has_begun(run)
                answer = self._answer(reply, transferred)
                changes += [AppendEvents(run.run_id, run.unseen()), self._without_secrets(answer, reply, transferred)]
        elif transferred is not None:
            run.tell(
                EventName.TRANSFERRED,
                {"from": run.agent, "to": transferred.agent, "reason": transferred.reason},
            )
            book.has_begun(run)
            changes += [AppendEvents(run.run_id, run.unseen()), book.goes_on(run, transferred)]
        elif reply is not None:
            unseen = run.unseen()
            if unseen:
                changes.append(AppendEvents(run.run_id, unseen))
            changes.append(book.end_of(run, reply))
            run.sealed = True
            book.has_begun(run)
        if not changes and state is None:
            ended(None)
            return
        last = run.last_seq
        try:
            book.commit(name, state, changes, partial(self._committed, ended, children, last, answer), lineage)
        except BaseException:
            run.sealed = False
            raise

    def _committed(self, ended: Ended, children: list[Run], last: int, answer: StoreStep | None, error: Exception | None) -> None:
        run = self.run
        run.sealed = run.sealed and error is None
        if error is None:
            if answer is not None:
                run.steps[answer.key] = answer.value
            if answer is not None or not self._path:
                run.show(last)
            for child in children:
                self._book.launch(child)
        ended(error)

    def _answer(self, reply: Message | None, transferred: Transferred | None) -> StoreStep:
        """The reply to a nested ask, or who goes on: it has left something behind that must not be done twice."""
        kept: dict[str, Any] = {"request": self._request}
        if transferred is not None:
            kept["onward"] = [transferred.agent, transferred.operation, _opaque(transferred.payload)]
            kept["hops"] = self._hops + 1
        elif reply is not None:
            kept |= {"reply": _opaque(reply.payload), "meta": reply.meta}
        return StoreStep(self.run.run_id, f"ask:{self._path}", kept)

    def _without_secrets(self, answer: StoreStep, reply: Message | None, transferred: Transferred | None) -> StoreStep:
        """The same as it may be stored. Where something secret is in it, only that there was something."""
        assert self._request is not None  # noqa: S101  # every nested ask has one
        if transferred is not None:
            secret = self._book.has_secrets(transferred.agent, transferred.operation, request=transferred.payload)
        else:
            to, kind = self._request["to"], self._request["type"]
            secret = reply is not None and self._book.has_secrets(to, kind, reply=reply.payload)
        return StoreStep(answer.run_id, answer.key, {"request": self._request, "secret": True}) if secret else answer

    def moves(self, delivery: Delivery, transferred: Transferred) -> None:
        """See `Journal.moves`."""
        del delivery
        if self._path:
            self.hop()
        else:
            self.run.goes_on_with(transferred.agent, transferred.operation)

    def again(self, delivery: Delivery) -> None:
        """See `Journal.again`."""
        self._book.again(self.run, delivery)

    def send(self, message: Message) -> None:
        """See `Journal.send`."""
        self._outbox.append(message)

    def asked(self, recipient: str, message_type: str, payload: Any) -> tuple[Journal, Message | None, Transferred | None]:
        """See `Journal.asked`."""
        base = source_of(self._place)
        count = self._count(f"ask:{base}")
        path = f"{base}/{count}" if base else str(count)
        request = {"to": recipient, "type": message_type, "digest": digest_of(payload, recipient).hex()}
        kept = self.run.steps.get(f"ask:{path}")
        if kept is None or kept["request"] != request:
            return Execution(self.run, self._book, path, request), None, None
        self.run.skip(path)
        if "secret" in kept:
            raise Interrupted(LOST_SECRETS)
        nested = Execution(self.run, self._book, path, request, kept.get("hops", 0))
        if "onward" in kept:
            agent, operation, request_on = kept["onward"]
            return nested, None, Transferred(agent, operation, _transparent(copied(request_on)))
        return nested, Message("reply", _transparent(copied(kept["reply"])), recipient, meta=kept.get("meta")), None

    # --- inside -------------------------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """Where it stands in its run."""
        return self._path

    @property
    def _place(self) -> str:
        """Where its names belong: to this handling, by the agent that has it now."""
        return f"{self._path}>{self._hops}" if self._hops else self._path

    def hop(self) -> None:
        """Another agent goes on."""
        self._hops += 1
        self.rewind()

    def notice(self, delivery: Delivery) -> bool:
        """Of a plain ask, which is not told when its handling begins: rewind where it has begun again. Returns whether it has."""
        handling = (delivery.message.attempt, delivery.holder.number if delivery.holder is not None else 0)
        again = self._handling not in (None, handling)
        if again:
            self.rewind()
        self._handling = handling
        return again

    def rewind(self) -> None:
        """A handling begins again: it counts from the beginning, and what it sent is to be sent anew."""
        self._names.clear()
        self._outbox.clear()

    def _key(self, kind: str, name: str) -> str:
        """The key of this use of a name: the same one when the handler comes here again."""
        key = f"{kind}:{source_of(self._place)}:{name}"
        return f"{key}:{self._count(key)}"

    def _count(self, key: str) -> int:
        """How often this was used in this handling. What is done in a step counts by itself: the step may be skipped next time."""
        count = self._names[key] = self._names.get(key, 0) + 1
        return count

    async def _keep(self, key: str, value: Any) -> None:
        run = self.run
        run.steps[key] = value
        if run.stored:
            self._book.has_begun(run)
            try:
                await self._book.keep(AppendEvents(run.run_id, run.unseen()), StoreStep(run.run_id, key, value))
            except BaseException:
                run.steps.pop(key, None)  # it is computed again, rather than lost
                raise


def _json(what: str, value: Any) -> Any:
    """A value as it would come out of a store. Raises `TypeError`."""
    try:
        return from_json(to_json(value, inf_nan_mode="constants"))
    except ValueError as error:
        raise TypeError(f"{what} is not JSON-able: {error}") from error


def _opaque(payload: Any) -> dict[str, Any]:
    """A payload inside JSON, also where it is bytes."""
    return {"bytes": b64encode(payload).decode()} if isinstance(payload, bytes) else {"json": payload}


def _transparent(kept: Mapping[str, Any]) -> Any:
    return b64decode(kept["bytes"]) if "bytes" in kept else kept["json"]


def _sentence(error: Exception) -> str:
    return error.detail if isinstance(error, PorticoError) else f"{type(error).__name__}: {error}"
