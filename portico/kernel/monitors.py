"""Monitors and links: who is told when an incarnation ends, as OTP has it.

A monitor tells one process of the end of another, once: with a `DOWN` message. A link joins two: when one ends in any way but
of itself, so does the other, unless it traps exits; then it gets an `EXIT` message. Both belong to the incarnations that made
them and end with them; a restart begins without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from portico.errors import LifecycleError
from portico.kernel.current import current
from portico.kernel.delivery import Delivery
from portico.kernel.exits import Exit, ExitKind
from portico.kernel.messages import DOWN, EXIT, Message, new_id

if TYPE_CHECKING:
    from portico.kernel.incarnation import Incarnation
    from portico.kernel.router import Router

NO_PROCESS = "noproc"
"""The reason of a `DOWN` for a name that no process has now; OTP's word."""


@dataclass(frozen=True, slots=True, eq=False)
class Watch:
    """One incarnation is to hear of the end of another."""

    ref: str
    """What `monitor` returned; empty for one half of a link."""
    watcher: Incarnation
    """Who hears."""
    target: Incarnation
    """Whose end."""


class Monitors:
    """All watches of one runtime."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._of_target: dict[Incarnation, list[Watch]] = {}
        self._of_watcher: dict[Incarnation, list[Watch]] = {}

    def monitor(self, watcher: Incarnation, name: str) -> str:
        """See `AgentProcess.monitor`."""
        ref = new_id()
        target = self._living(name)
        if target is None:
            self._tell_down(watcher, ref, name, NO_PROCESS)
        else:
            self._add(Watch(ref, watcher, target))
        return ref

    def demonitor(self, watcher: Incarnation, ref: str) -> None:
        """See `AgentProcess.demonitor`."""
        for watch in list(self._of_watcher.get(watcher, ())):
            if watch.ref and watch.ref == ref:
                self._remove(watch)

    def link(self, one: Incarnation, name: str) -> None:
        """See `AgentProcess.link`."""
        other = self._living(name)
        if other is None:
            error = LookupError(f"{NO_PROCESS}: there is no process {name!r} now")
            self._tell_exit(one, name, Exit(ExitKind.CRASHED, error, from_outside=self._came_from_outside(name)))
        elif other is not one and not any(w.target is other and not w.ref for w in self._of_watcher.get(one, ())):
            self._add(Watch("", one, other))
            self._add(Watch("", other, one))

    def unlink(self, one: Incarnation, name: str) -> None:
        """See `AgentProcess.unlink`."""
        for watch in [*self._of_watcher.get(one, ()), *self._of_target.get(one, ())]:
            if not watch.ref and name in (watch.target.name, watch.watcher.name):
                self._remove(watch)

    def ended(self, life: Incarnation, exit_: Exit) -> None:
        """Tell whoever watches this incarnation, and forget what it watched itself."""
        if not self._of_target and not self._of_watcher:
            return
        for watch in list(self._of_watcher.get(life, ())):
            self._remove(watch)
        for watch in list(self._of_target.get(life, ())):
            self._remove(watch)
            if watch.ref:
                self._tell_down(watch.watcher, watch.ref, life.name, exit_.reason)
            elif exit_.kind is not ExitKind.NORMAL:
                self._tell_exit(watch.watcher, life.name, exit_)

    def _came_from_outside(self, name: str) -> bool:
        """Whether an outside caller brought it about that a process is not there, or that somebody links it now."""
        in_hand, life = current.get(), self._router.registry.lookup(name).life
        if in_hand is not None and in_hand.message.origin is not None:
            return True
        return life is not None and life.last_exit is not None and life.last_exit.outside

    def _living(self, name: str) -> Incarnation | None:
        mailbox = self._router.registry.lookup(name)
        if mailbox.front:
            raise LifecycleError(f"Several processes stand behind {name!r}: monitor or link one of them.")
        life = mailbox.life
        return None if life is None or life.outlived else life

    def _tell_down(self, watcher: Incarnation, ref: str, name: str, reason: str) -> None:
        self._notify(watcher, DOWN, {"ref": ref, "name": name, "reason": reason})

    def _tell_exit(self, life: Incarnation, name: str, exit_: Exit) -> None:
        if life.process.trap_exits:
            self._notify(life, EXIT, {"name": name, "reason": exit_.reason})
        else:
            life.linked_ended(name, exit_)

    def _notify(self, life: Incarnation, kind: str, payload: dict[str, str]) -> None:
        message = Message(kind, payload, payload["name"], life.name)
        life.mailbox.put_notice(Delivery(message, one_way=True))

    def _add(self, watch: Watch) -> None:
        self._of_target.setdefault(watch.target, []).append(watch)
        self._of_watcher.setdefault(watch.watcher, []).append(watch)

    def _remove(self, watch: Watch) -> None:
        for table, life in ((self._of_target, watch.target), (self._of_watcher, watch.watcher)):
            watches = table.get(life, [])
            if watch in watches:
                watches.remove(watch)
            if not watches:
                table.pop(life, None)
