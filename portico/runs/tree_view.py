"""How the tree looks, the same through every face: plain data about agents and supervisors, and whether the whole is ready."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Final, Protocol, cast, runtime_checkable

from portico.errors import UnknownAgent, nearest
from portico.kernel.keyed import Keyed
from portico.kernel.keyed_mailbox import KeyedMailbox, KeyMailbox
from portico.kernel.lifecycle import ProcessStatus
from portico.kernel.process import AgentProcess
from portico.runs.printing import printed
from portico.runs.run_view import rfc3339

if TYPE_CHECKING:
    from collections.abc import Generator

    from portico.kernel.last_crash import LastCrash
    from portico.kernel.mailbox import Mailbox
    from portico.kernel.runtime import Runtime
    from portico.kernel.supervisor import Supervisor
    from portico.operations.catalogue import Catalogue, Endpoint

MINUTE: Final = 60.0
"""Seconds for which restarts are counted."""
SLICE: Final = 250
"""Children that are looked at before others on the event loop have their turn: some milliseconds of work."""
_KEY: Final = r"/[^\s'\"]+"
"""The rest of the name of a process that stands behind a keyed agent's."""


@runtime_checkable
class Ready(Protocol):
    """A process that is more, or less, than running: an upstream that is not connected."""

    def readiness(self) -> dict[str, Any]:
        """`ready` (bool) says whether it works, `required` (bool) whether the whole depends on it; and what else is to know."""
        ...


def exposed(runtime: Runtime, catalogue: Catalogue, name: str) -> AgentProcess | Supervisor:
    """The agent of that name, where the outside may know of it. Raises `UnknownAgent`."""
    node = runtime.find(name) if catalogue.has(name) else None
    if node is None:
        raise UnknownAgent(name, nearest(name, catalogue.agents))
    return node


def in_tree(runtime: Runtime, name: str) -> AgentProcess | Supervisor:
    """The process or supervisor of that name, exposed or not: for an admin. Raises `UnknownAgent`.

    The processes of a keyed agent are not found: their names are their callers' keys.
    """
    mailbox = runtime.registry.get(name)
    node = None if isinstance(mailbox, KeyMailbox) else runtime.find(name)
    if node is None:
        shown = (other.name for other in runtime.registry.mailboxes.values() if not isinstance(other, KeyMailbox))
        raise UnknownAgent(name, nearest(name, [*shown, *runtime.router.supervisions]))
    return node


class TreeView:
    """How the tree of a runtime looks.

    Args:
        runtime: whose.
        catalogue: what of it is served.
        crashes: whether it is shown with what a process crashed the last time: of what others sent, for admins.
        traceback: with the traceback as well.
    """

    def __init__(self, runtime: Runtime, catalogue: Catalogue, *, crashes: bool = False, traceback: bool = False) -> None:
        self._runtime = runtime
        self._catalogue = catalogue
        self._crashes = crashes
        self._traceback = traceback
        self._mailboxes = runtime.registry.mailboxes
        self._ready: dict[type, bool] = {}
        self._seen = 0
        self._minute_ago = runtime.router.clock.now() - MINUTE

    async def text(self) -> bytes:
        """The whole tree as JSON; in `beside` what was attached at run time. Others have their turn meanwhile, so it may change."""
        root, *beside = [await self.text_of(node) for node in self._runtime.roots]
        return b'%s,"beside":[%s]}' % (root[:-1], b",".join(beside)) if beside else root

    async def text_of(self, node: AgentProcess | Supervisor) -> bytes:
        """As JSON: a process; or a supervisor and everything below it, and of those with a name that takes calls, what waits there.

        The processes of a keyed agent are counted, not listed: their names are their callers' keys.
        """
        steps = self._steps(node)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                return done.value
            await asyncio.sleep(0)

    def _steps(self, node: AgentProcess | Supervisor) -> Generator[None, None, bytes]:
        """Prints a node; stops after each `SLICE` children that it has seen."""
        if isinstance(node, AgentProcess):
            return printed(self._process(node))
        view: dict[str, Any] = {"name": node.name, "kind": node.tag, "strategy": node.strategy.value}
        view |= {"max_restarts": node.max_restarts, "restart_window": node.restart_window}
        view["restarts_in_window"] = node.supervision.restarts_in_window if node.supervision is not None else 0
        if node.name in self._mailboxes:
            view |= self._addressed(node.name)
        if isinstance(node, Keyed):
            return printed(view | {"max_keys": node.max_keys})
        children: list[bytes] = []
        for child in node.which_children():
            children.append(printed(self._process(child)) if isinstance(child, AgentProcess) else (yield from self._steps(child)))
            self._seen += 1
            if self._seen % SLICE == 0:
                yield
        return b'%s,"children":[%s]}' % (printed(view)[:-1], b",".join(children))

    def _process(self, agent: AgentProcess) -> dict[str, Any]:
        view: dict[str, Any] = {"name": agent.name, "kind": agent.tag, "status": agent.status.value}
        view |= self._addressed(agent.name)
        if agent.capabilities:
            view["capabilities"] = list(agent.capabilities)
            if agent.capability_metadata:
                view["capability_metadata"] = {tag: dict(about) for tag, about in agent.capability_metadata.items()}
        about = _readiness_of(agent, self._ready)
        return view if about is None else view | about

    def _addressed(self, name: str) -> dict[str, Any]:
        """What has a name that takes messages."""
        mailbox = self._mailboxes.get(name)
        view: dict[str, Any] = {}
        if mailbox is not None:
            view = figures_of(mailbox, self._minute_ago)
            view["incarnation"] = mailbox.incarnations
            view["restarts"] = mailbox.restarts
            view["mailbox"] = {"depth": view.pop("depth"), "size": mailbox.size, "expired": mailbox.expired}
            reason = mailbox.closed if mailbox.closed is not None else mailbox.suspended
            if reason is None and mailbox.drain is not None:
                reason = mailbox.drain.reason
            if reason is not None:
                view["reason"] = reason
            if self._crashes and mailbox.last_crash is not None:
                hidden = name if isinstance(mailbox, KeyedMailbox) else None
                view["last_crash"] = crash_view(mailbox.last_crash, traceback=self._traceback, hidden=hidden)
        endpoints = self._catalogue.of(name)
        view["exposed"] = self._catalogue.has(name)
        if endpoints:
            view["operations"] = [_operation_view(endpoint, self._catalogue) for endpoint in endpoints]
        return view


def figures_of(mailbox: Mailbox, minute_ago: float) -> dict[str, Any]:
    """What changes all the time. `minute_ago`: on the runtime's clock."""
    figures = {
        "depth": len(mailbox),
        "in_flight": mailbox.in_hand,
        "restarts_per_minute": mailbox.restarts_since(minute_ago),
        "intake": mailbox.intake.value,
    }
    if isinstance(mailbox, KeyedMailbox):
        figures["keys"] = len(mailbox.boxes)
    return figures


def crash_view(crash: LastCrash, *, traceback: bool, hidden: str | None = None) -> dict[str, Any]:
    """A crash; its time in RFC 3339, UTC. `hidden`: the keyed agent whose keys are left out."""
    view: dict[str, Any] = {
        "at": rfc3339(crash.at),
        "type": crash.type,
        "message": without_keys(crash.message, hidden),
        "incarnation": crash.incarnation,
        "attempt": crash.attempt,
    }
    return {**view, "traceback": without_keys(crash.traceback, hidden)} if traceback else view


def without_keys(text: str, front: str | None) -> str:
    """What is said of a process behind a keyed agent's name has its name, and that its caller's key: only `front` is left of it."""
    return text if front is None else re.sub(f"({re.escape(front)}){_KEY}", r"\1", text)


def _operation_view(endpoint: Endpoint, catalogue: Catalogue) -> dict[str, Any]:
    view: dict[str, Any] = {"name": endpoint.operation.name, "path": endpoint.path}
    tool, resource, prompt = catalogue.tool_of(endpoint), endpoint.operation.resource, catalogue.prompt_of(endpoint)
    if tool is not None:
        view["tool"] = tool
    if resource is not None:
        view["resource"] = resource.uri
    if prompt is not None:
        view["prompt"] = prompt
    return view


def _readiness_of(agent: AgentProcess, kinds: dict[type, bool]) -> dict[str, Any] | None:
    """What it says of that; None where it says nothing. `kinds` remembers which classes do: to look at each agent takes 20 us."""
    kind = type(agent)
    says = kinds.get(kind)
    if says is None:
        says = kinds[kind] = issubclass(kind, Ready)
    return cast("Ready", agent).readiness() if says else None


def readiness(runtime: Runtime) -> tuple[bool, dict[str, Any]]:
    """Whether every process runs that the whole depends on, and each process's part in that.

    A process between two incarnations does not make the whole unready: its callers wait through the restart.
    """
    parts: dict[str, Any] = {}
    kinds: dict[type, bool] = {}
    ready = runtime.alive
    for agent in runtime.all_agents():
        mailbox = runtime.router.registry.get(agent.name)
        if isinstance(mailbox, KeyMailbox):
            continue  # one caller's process: it comes and goes, and its name is nobody else's business
        part: dict[str, Any] = {"status": agent.status.value}
        works = agent.status in (ProcessStatus.RUNNING, ProcessStatus.WAITING, ProcessStatus.RESTARTING)
        required = agent.status not in (ProcessStatus.STOPPED, ProcessStatus.SUSPENDED)
        about = _readiness_of(agent, kinds)
        if about is not None:
            part |= about
            works, required = works and bool(about.get("ready", True)), bool(about.get("required", True))
        part["ready"] = works
        parts[agent.name] = part
        ready = ready and (works or not required)
    return ready, parts
