"""How the tree looks from outside: plain data about agents and supervisors, and whether the whole is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from portico.kernel.process import AgentProcess, ProcessStatus

if TYPE_CHECKING:
    from portico.kernel.runtime import Runtime
    from portico.kernel.supervisor import Supervisor
    from portico.operations.catalogue import Catalogue


@runtime_checkable
class Ready(Protocol):
    """A process that is more, or less, than running: an upstream that is not connected."""

    def readiness(self) -> dict[str, Any]:
        """`ready` (bool) says whether it works, `required` (bool) whether the whole depends on it; and what else is to know."""
        ...


def agent_view(runtime: Runtime, agent: AgentProcess, catalogue: Catalogue) -> dict[str, Any]:
    """One process."""
    mailbox = runtime.router.registry.get(agent.name)
    view: dict[str, Any] = {"name": agent.name, "kind": agent.tag, "status": agent.status.value}
    if mailbox is not None:
        view |= {"incarnation": mailbox.incarnations, "restarts": mailbox.restarts}
        view["mailbox"] = {"depth": len(mailbox), "size": mailbox.size}
        if mailbox.closed is not None:
            view["reason"] = mailbox.closed
    if catalogue.has(agent.name):
        view["operations"] = [
            {"name": endpoint.operation.name, "path": endpoint.path, "tool": endpoint.tool}
            for endpoint in catalogue
            if endpoint.agent == agent.name
        ]
    if agent.capabilities:
        view["capabilities"] = list(agent.capabilities)
    if isinstance(agent, Ready):
        view |= agent.readiness()
    return view


def tree_view(runtime: Runtime, node: AgentProcess | Supervisor, catalogue: Catalogue) -> dict[str, Any]:
    """A supervisor and everything below it."""
    if isinstance(node, AgentProcess):
        return agent_view(runtime, node, catalogue)
    return {
        "name": node.name,
        "kind": node.tag,
        "strategy": node.strategy.value,
        "children": [tree_view(runtime, child, catalogue) for child in node.which_children()],
    }


def readiness(runtime: Runtime) -> tuple[bool, dict[str, Any]]:
    """Whether every process runs that the whole depends on, and each process's part in that.

    A process between two incarnations does not make the whole unready: its callers wait through the restart.
    """
    parts: dict[str, Any] = {}
    ready = runtime.alive
    for agent in runtime.all_agents():
        part: dict[str, Any] = {"status": agent.status.value}
        works = agent.status in (ProcessStatus.RUNNING, ProcessStatus.RESTARTING)
        required = agent.status is not ProcessStatus.STOPPED
        if isinstance(agent, Ready):
            about = agent.readiness()
            part |= about
            works, required = works and bool(about.get("ready", True)), bool(about.get("required", True))
        part["ready"] = works
        parts[agent.name] = part
        ready = ready and (works or not required)
    return ready, parts
