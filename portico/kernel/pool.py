"""Pool: n identical children behind one name, which share what waits.

Whoever is free takes the next message, so none waits behind a busy member while another is idle; of several that are free, the
one that has handled least. Above: users put a pool among a supervisor's children. Below: `supervision.py`, which runs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portico.errors import StartError
from portico.kernel.child import Then
from portico.kernel.shared_mailbox import SharedMailbox
from portico.kernel.supervision import Supervision
from portico.kernel.supervisor import Supervisor
from portico.kernel.words import at_least

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from portico.kernel.child import Child
    from portico.kernel.incarnation import Incarnation
    from portico.kernel.lifecycle import ProcessStatus
    from portico.kernel.mailbox import Mailbox
    from portico.kernel.process import AgentProcess
    from portico.kernel.router import Router
    from portico.kernel.supervision import Ear


class Pool(Supervisor):
    """See `pool`."""

    tag = "pool"

    def __init__(
        self,
        agent_class: Callable[..., AgentProcess],
        name: str,
        size: int,
        *,
        config: Mapping[str, Any] | None = None,
        adjusted: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        at_least(1, f"pool {name!r}", size=size)
        settings = dict(config or {})
        adjustments = {"config": settings, **(adjusted or {})}

        def made(member: str) -> AgentProcess:
            return agent_class(member, **settings).adjust(**adjustments)

        super().__init__(name, [made(f"{name}.{number}") for number in range(1, size + 1)], **options)
        self.template = made(name)
        """What callers address: never started, it says what the members can be asked."""

    def addressed(self) -> Iterator[AgentProcess]:
        """One that stands for all."""
        yield self.template

    def supervise(self, router: Router, reports_to: Ear, parent: Supervision | None = None) -> PoolSupervision:
        """See `Supervisor.supervise`."""
        return PoolSupervision(self, router, reports_to, parent)


class PoolSupervision(Supervision):
    """One life of a pool."""

    supervisor: Pool

    def __init__(self, supervisor: Pool, router: Router, reports_to: Ear, parent: Supervision | None = None) -> None:
        super().__init__(supervisor, router, reports_to, parent)
        template, registry = supervisor.template, router.registry
        known = registry.get(supervisor.name)
        self._shared = known if isinstance(known, SharedMailbox) else SharedMailbox(supervisor.name, template.mailbox_size)
        self._shared.parent = self
        self._shared.hands = template.concurrency * len(supervisor.children)
        self._shared.reopen()
        registry.register(self._shared, template.capabilities, template.capability_metadata)

    def _build(self, child: Child) -> Incarnation | Supervision:
        self._shared.reopen()
        return super()._build(child)

    def _enter(self, mailbox: Mailbox, process: AgentProcess) -> None:
        """What a member can do, the pool can do: members are not found one by one."""
        del process
        mailbox.source, mailbox.behind = self._shared, self.name
        self._shared.members[mailbox.name] = mailbox
        if self._shared.suspended is not None and mailbox.suspended is None:
            mailbox.suspend(self._shared.suspended)
        self.router.registry.register(mailbox)

    def _finish(self, child: Child, status: ProcessStatus, reason: str, told: str | None = None) -> None:
        super()._finish(child, status, reason, told)
        if self._shared.drain is not None:
            self._shared.drain.is_over()
        if all(other.life is None and other.due is None for other in self.children.values()):  # nobody is left to take anything
            for delivery in self._shared.close(told or reason):
                self.router.dead_letter(delivery, told or reason)

    async def replace_all(self, kind: type[AgentProcess], timeout: float) -> None:
        """Replace one member after another, so that the others work on meanwhile. All or none: a failure brings the former back."""
        replaced, begun = list[str](), ""
        former = self.supervisor.template.recipe.kind
        try:
            for begun in list(self.children):
                await self.part(begun, Then.RESTART, timeout, drain="current", kind=kind)
                replaced.append(begun)
        except BaseException as error:
            if not isinstance(error, StartError):  # which has brought the former class back already
                replaced.append(begun)
            for name in replaced:
                await self.part(name, Then.RESTART, timeout, drain="current", kind=former)
            raise
        supervisor = self.supervisor
        supervisor.recipe.replace("agent_class", kind)
        supervisor.template.recipe.kind = kind
        template = supervisor.template = supervisor.template.fresh()
        self.router.registry.register(self._shared, template.capabilities, template.capability_metadata)


def pool(
    agent_class: type[AgentProcess],
    name: str | None = None,
    *,
    size: int,
    config: Mapping[str, Any] | None = None,
    **options: Any,
) -> Pool:
    """`size` identical children behind one name, as one entry among a supervisor's children.

    A message to the name goes to whoever is free. The members are `name.1`, `name.2` …, each with a state of its own; a member
    that crashes is restarted while the others go on, and one of these takes the message that it had in hand.

    Args:
        agent_class: what each member is.
        name: the name that callers use; the class's in lower case where none is given.
        size: how many.
        config: the keyword arguments of each member's constructor. Its `mailbox_size` is that of the pool as well.
        options: as of `Supervisor`: `max_restarts`, `backoff` …

    Raises:
        SettingOutOfRange: a size below one.
    """
    return Pool(agent_class, name or agent_class.__name__.lower(), size, config=config, **options)
