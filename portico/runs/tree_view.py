"""How the tree looks, the same through every face: plain data about agents and supervisors, and whether the whole is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from portico.errors import UnknownAgent, nearest
from portico.kernel.keyed import Keyed
from portico.kernel.keyed_mailbox import KeyMailbox
from portico.kernel.lifecycle import ProcessStatus
from portico.kernel.process import AgentProcess

if TYPE_CHECKING:
    from portico.kernel.runtime import Runtime
    from portico.kernel.supervisor import Supervisor
    from portico.operations.catalogue import Catalogue, Endpoint


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


def agent_view(runtime: Runtime, agent: AgentProcess, catalogue: Catalogue) -> dict[str, Any]:
    """One process."""
    view: dict[str, Any] = {"name": agent.name, "kind": agent.tag, "status": agent.status.value}
    view |= _mailbox_view(runtime, agent.name) | _operations_view(agent.name, catalogue)
    if agent.capabilities:
        view["capabilities"] = list(agent.capabilities)
    if isinstance(agent, Ready):
        view |= agent.readiness()
    return view


def _mailbox_view(runtime: Runtime, name: str) -> dict[str, Any]:
    mailbox = runtime.router.registry.get(name)
    if mailbox is None:
        return {}
    view: dict[str, Any] = {
        "incarnation": mailbox.incarnations,
        "restarts": mailbox.restarts,
        "mailbox": {"depth": len(mailbox), "size": mailbox.size, "expired": mailbox.expired},
    }
    reason = mailbox.closed if mailbox.closed is not None else mailbox.suspended
    return view if reason is None else {**view, "reason": reason}


def _operations_view(name: str, catalogue: Catalogue) -> dict[str, Any]:
    operations = [_operation_view(endpoint, catalogue) for endpoint in catalogue if endpoint.agent == name]
    return {"operations": operations} if operations else {}


def _operation_view(endpoint: Endpoint, catalogue: Catalogue) -> dict[str, Any]:
    resource = endpoint.operation.resource
    offers = {
        "tool": catalogue.tool_of(endpoint),
        "resource": resource.uri if resource is not None else None,
        "prompt": catalogue.prompt_of(endpoint),
    }
    view: dict[str, Any] = {"name": endpoint.operation.name, "path": endpoint.path}
    return view | {kind: what for kind, what in offers.items() if what is not None}


def tree_view(runtime: Runtime, node: AgentProcess | Supervisor, catalogue: Catalogue) -> dict[str, Any]:
    """A supervisor and everything below it; of those with a name that takes calls, also what waits there.

    The processes of a keyed agent are counted, not listed: their names are their callers' keys.
    """
    if isinstance(node, AgentProcess):
        return agent_view(runtime, node, catalogue)
    children = node.which_children()
    view: dict[str, Any] = {"name": node.name, "kind": node.tag, "strategy": node.strategy.value}
    view |= _mailbox_view(runtime, node.name) | _operations_view(node.name, catalogue)
    if isinstance(node, Keyed):
        return view | {"keys": len(children), "max_keys": node.max_keys}
    return view | {"children": [tree_view(runtime, child, catalogue) for child in children]}


def readiness(runtime: Runtime) -> tuple[bool, dict[str, Any]]:
    """Whether every process runs that the whole depends on, and each process's part in that.

    A process between two incarnations does not make the whole unready: its callers wait through the restart.
    """
    parts: dict[str, Any] = {}
    ready = runtime.alive
    for agent in runtime.all_agents():
        mailbox = runtime.router.registry.get(agent.name)
        if isinstance(mailbox, KeyMailbox):
            continue  # one caller's process: it comes and goes, and its name is nobody else's business
        part: dict[str, Any] = {"status": agent.status.value}
        works = agent.status in (ProcessStatus.RUNNING, ProcessStatus.WAITING, ProcessStatus.RESTARTING)
        required = agent.status not in (ProcessStatus.STOPPED, ProcessStatus.SUSPENDED)
        if isinstance(agent, Ready):
            about = agent.readiness()
            part |= about
            works, required = works and bool(about.get("ready", True)), bool(about.get("required", True))
        part["ready"] = works
        parts[agent.name] = part
        ready = ready and (works or not required)
    return ready, parts
