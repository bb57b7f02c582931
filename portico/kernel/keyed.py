"""Keyed agents: one process per key behind one name, made on first use, put to sleep when idle.

A session, a conversation, a device: each key has its own process, with its own state and its own order. The state is committed
with every reply, so a process that sleeps costs nothing, and the next message wakes a fresh one that goes on where it was.
Keys of different callers never meet, unless the agent says `shared`.

Above: users put a keyed agent among a supervisor's children. Below: `supervision.py`, which runs it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, cast

from portico.errors import AgentCrashed, DuplicateName, StartError
from portico.kernel.child import Child, Then
from portico.kernel.dynamic_supervision import DynamicSupervision
from portico.kernel.exits import ExitKind, described
from portico.kernel.incarnation import Incarnation
from portico.kernel.keyed_mailbox import KeyedMailbox, KeyMailbox
from portico.kernel.lifecycle import ProcessStatus
from portico.kernel.process import Restart
from portico.kernel.supervisor import Supervisor
from portico.kernel.words import at_least

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from portico.kernel.exits import Ended, Exit
    from portico.kernel.mailbox import Mailbox
    from portico.kernel.process import AgentProcess
    from portico.kernel.router import Router
    from portico.kernel.supervision import Ear, Supervision

LOOKS: Final = 256
"""How many processes are looked at, each time one more is needed, for one that has nothing to do."""

PATIENCE: Final = 1.0
"""Seconds after which those who wait for room look for it again."""


class Keyed(Supervisor):
    """See `keyed`."""

    tag = "keyed"
    dynamic = True

    def __init__(
        self,
        agent_class: Callable[..., AgentProcess],
        name: str,
        per_key: str,
        *,
        idle_timeout: float = 300.0,
        max_keys: int = 10_000,
        shared: bool = False,
        config: Mapping[str, Any] | None = None,
        adjusted: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name, **options)
        at_least(0.001, f"keyed agent {name!r}", idle_timeout=idle_timeout)
        at_least(1, f"keyed agent {name!r}", max_keys=max_keys)
        self.agent_class = agent_class
        self.per_key = per_key
        self.idle_timeout = idle_timeout
        self.max_keys = max_keys
        self.shared = shared
        self.config = dict(config or {})
        self._adjusted = {"config": self.config, **(adjusted or {})}
        self.template = self.made(name)
        """What callers address: never started, it says what the processes can be asked."""

    def made(self, name: str) -> AgentProcess:
        """A process for one key. Raises whatever its constructor raises."""
        return self.agent_class(name, **self.config).adjust(**{**self._adjusted, "restart": Restart.TRANSIENT})

    def addressed(self) -> Iterator[AgentProcess]:
        """One that stands for all."""
        yield self.template

    def supervise(self, router: Router, reports_to: Ear, parent: Supervision | None = None) -> KeyedSupervision:
        """See `Supervisor.supervise`."""
        return KeyedSupervision(self, router, reports_to, parent)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A message waits for a key that has no process."""

    box: KeyMailbox


class KeyedSupervision(DynamicSupervision):
    """One life of a keyed agent's supervisor: one slow key holds nobody else up."""

    supervisor: Keyed

    def __init__(self, supervisor: Keyed, router: Router, reports_to: Ear, parent: Supervision | None = None) -> None:
        super().__init__(supervisor, router, reports_to, parent)
        template, registry = supervisor.template, router.registry
        known = registry.get(supervisor.name)
        self._front = known if isinstance(known, KeyedMailbox) else KeyedMailbox(supervisor, router.clock)
        self._front.parent = self
        self._front.supervision = self
        self._front.reopen()
        registry.register(self._front, template.capabilities, template.capability_metadata)
        self._line: deque[KeyMailbox] = deque()
        """Those who wait for room."""
        self._going: set[str] = set()
        """Those who were asked to sleep and have not ended yet."""
        self.forgetful = False
        for box in list(self._front.boxes.values()):  # of an earlier life
            box.life = None
            if box.waiting or box.suspended is not None:
                self.want(box)
            else:
                del self._front.boxes[box.key]
                registry.deregister(box.name)

    def want(self, box: KeyMailbox) -> None:
        """Start a process for that key, as soon as there is room."""
        box.wanted = True
        self._inbox.put(Wanted(box))

    # --- room ---------------------------------------------------------------------------------------------------------

    def make_room(self) -> bool:
        """Put the longest unused process to sleep that has nothing to do. Returns whether there was one."""
        boxes = self._front.boxes
        for box in list(islice(boxes.values(), LOOKS)):
            child = self.children.get(box.name)
            found = child is not None and self._put_to_sleep(child, box)
            boxes[box.key] = boxes.pop(box.key)  # at work, or leaving: looked at again after the others
            if found:
                return True
        return False

    def _put_to_sleep(self, child: Child, box: KeyMailbox) -> bool:
        life = child.life
        idle = isinstance(life, Incarnation) and not life.busy and not box.waiting and child.starting is None
        if not idle or child.leaving is not None or box.suspended is not None:  # a suspension would be forgotten
            return False
        self._going.add(child.name)
        self.leave(child, Then.FORGET, None, drain="current")
        return True

    def _next_due(self) -> float | None:
        """Also when the longest unused process has been idle long enough."""
        due = super()._next_due()
        oldest = next(iter(self._front.boxes.values()), None)
        sleep = None if oldest is None else oldest.last_used + self.supervisor.idle_timeout
        if self._line:
            again = self._clock.now() + PATIENCE
            sleep = again if sleep is None else min(sleep, again)
        return sleep if due is None else due if sleep is None else min(due, sleep)

    def _sweep(self) -> None:
        now, boxes = self._clock.now(), self._front.boxes
        while (box := next(iter(boxes.values()), None)) is not None and box.last_used + self.supervisor.idle_timeout <= now:
            child = self.children.get(box.name)
            if child is not None:
                self._put_to_sleep(child, box)
            elif not box.waiting and box.suspended is None:
                del boxes[box.key]
                self.router.registry.deregister(box.name)
                continue
            boxes[box.key] = boxes.pop(box.key)  # leaving, or at work: looked at again when it has been idle once more
            box.last_used = now

    # --- starting, without waiting ------------------------------------------------------------------------------------

    async def _told(self, event: Any) -> None:
        if isinstance(event, Wanted):
            self._line.append(event.box)

    def _enter(self, mailbox: Mailbox, process: AgentProcess) -> None:
        """What a process can do, the keyed agent can do: they are not found one by one."""
        del process
        self.router.registry.register(mailbox)

    async def _restart_due(self) -> None:
        await super()._restart_due()
        self._sweep()
        while self._line and len(self.children) < self.supervisor.max_keys:
            self._open(self._line.popleft())
        if len(self._line) > len(self._going):
            self.make_room()

    def _open(self, box: KeyMailbox) -> None:
        box.wanted = False
        if box.name in self.children or not box.waiting:
            return
        try:
            if self.router.registry.get(box.name) not in (None, box):
                raise DuplicateName(box.name)
            child = Child(self.supervisor.made(box.name))
        except Exception as error:  # noqa: BLE001  # the border of user code: a constructor that raises is a start failure
            self._refuse_all(box, error)
            return
        self.children[box.name] = child
        self.router.registry.register(box)
        error = self._launch(child)
        if error is not None:
            self._unborn(child, error)

    async def _child_ended(self, event: Ended) -> None:
        child, exit_ = self._living(event.child), event.exit
        leaves = child is not None and child.leaving is not None and child.leaving.then is Then.FORGET
        comes_back = child is not None and child.leaving is not None and not leaves
        started = child is not None and child.starting is None
        if child is not None and (leaves or (started and exit_.wanted and not comes_back)):
            self._end_starting(child)
            if exit_.kind is ExitKind.CRASHED:
                self._tell(child, exit_)
            self._fell_asleep(child, exit_)
            if exit_.kind is ExitKind.CRASHED and exit_.counts:
                self._count(exit_.told)
        else:
            await super()._child_ended(event)

    async def _did_not_start(self, child: Child, error: StartError) -> None:
        self._mark(child, ProcessStatus.FAILED)
        self._unborn(child, error)

    def _unborn(self, child: Child, error: StartError) -> None:
        """Nobody else is concerned, so it counts to no window: those who wait for this key hear of it, and it is forgotten."""
        self._note_crash(child.name, error.__cause__ or error)
        self._report("start_error", error.reason, child.name, error)
        self._refuse_all(self._box(child), error)
        super()._unborn(child, error)

    def _refuse_all(self, box: KeyMailbox, error: BaseException) -> None:
        """Answer what waits: it was never handled, but whoever sent it brought the start about, and pays for it."""
        waiting = list(box.waiting)
        box.waiting.clear()
        for delivery in waiting:
            if not delivery.finished:
                attempts = delivery.message.attempt + 1
                failure = AgentCrashed(box.name, error, attempts=attempts, incarnation=box.incarnations, restarts=box.restarts)
                self.router.dead_letter(delivery, str(failure))
                delivery.fail(failure)
        if self._front.boxes.get(box.key) is box:
            del self._front.boxes[box.key]
        if self._front.drain is not None:
            self._front.drain.is_over()

    def _fell_asleep(self, child: Child, exit_: Exit) -> None:
        child.life = None
        self._settle(child, exit_, 0.0)
        box = self._box(child)
        self._mark(child, ProcessStatus.STOPPED)
        waiting = list(box.waiting)
        box.waiting.clear()
        self._finish(child, ProcessStatus.STOPPED, "idle")
        waiting = [delivery for delivery in waiting if not delivery.finished]
        if waiting or box.suspended is not None:  # somebody came while it was going to sleep; a suspension is kept
            box.reopen()
            box.drain = self._front.drain
            box.waiting.extend(waiting)
            self._front.boxes[box.key] = box
        if waiting:
            self._line.appendleft(box)
        if self._front.drain is not None:
            self._front.drain.is_over()

    def _forget(self, child: Child, reason: str) -> None:
        box = self._box(child)
        self._going.discard(child.name)
        super()._forget(child, reason)
        if self._front.boxes.get(box.key) is box:
            del self._front.boxes[box.key]

    async def replace_all(self, kind: type[AgentProcess], timeout: float) -> None:
        """Let every process end after the message in hand: what comes next for its key begins with the new class."""
        keyed = self.supervisor
        former, keyed.agent_class = keyed.agent_class, kind
        try:
            keyed.template = keyed.made(keyed.name)
        except Exception as error:
            keyed.agent_class = former
            raise StartError(keyed.name, described(error)) from error
        keyed.recipe.replace("agent_class", kind)
        self.router.registry.register(self._front, keyed.template.capabilities, keyed.template.capability_metadata)
        for child in list(self.children.values()):
            child.present.recipe.kind = kind  # for one that is down, and comes back
            if child.life is not None and child.leaving is None:
                self.leave(child, Then.FORGET, timeout, drain="current")

    def _box(self, child: Child) -> KeyMailbox:
        return cast("KeyMailbox", self.router.registry.lookup(child.name))


def keyed(
    agent_class: type[AgentProcess],
    name: str | None = None,
    *,
    per_key: str,
    idle_timeout: float = 300.0,
    max_keys: int = 10_000,
    shared: bool = False,
    config: Mapping[str, Any] | None = None,
    **options: Any,
) -> Keyed:
    """One process per key behind one name, as one entry among a supervisor's children.

    Args:
        agent_class: what each process is. It has `self.state` of its own, kept while it sleeps.
        name: the name that callers use; the class's in lower case where none is given.
        per_key: the member of the payload that names the key: `session_id`. A string of 1 to 256 characters, or an integer.
        idle_timeout: seconds without a message after which a process is put to sleep.
        max_keys: how many processes there are at most. Where one more is needed, the longest unused one goes to sleep; where
            all are at work, the message is refused with `TooManyKeys`.
        shared: one process per key for all callers. Otherwise one per caller (principal) and key, so that nobody reads
            another's session by its id.
        config: the keyword arguments of each process's constructor.
        options: as of `Supervisor`: `max_restarts`, `backoff` …

    Raises:
        SettingOutOfRange: an `idle_timeout` or `max_keys` that nothing could live with.
    """
    return Keyed(
        agent_class,
        name or agent_class.__name__.lower(),
        per_key,
        idle_timeout=idle_timeout,
        max_keys=max_keys,
        shared=shared,
        config=config,
        **options,
    )
