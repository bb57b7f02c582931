"""Registry: which mailbox belongs to which name, and who can do what.

One per runtime. Names are identities: a name stays registered while its process is down, so that messages can wait.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from portico.errors import UnknownAgent, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from portico.kernel.mailbox import Mailbox


class Registry:
    """Mailboxes by name, names by capability."""

    def __init__(self) -> None:
        self.mailboxes: dict[str, Mailbox] = {}
        """By name; to read, for the router."""
        self.suspensions: dict[str, str] = {}
        """Why processes were suspended in an earlier life of the program, until they come here."""
        self._capabilities: dict[str, dict[str, Mapping[str, Any]]] = {}

    def register(self, mailbox: Mailbox, capabilities: Iterable[str] = (), metadata: Mapping[str, Any] | None = None) -> None:
        """Enter a mailbox under its name, with what its process can do (`metadata` is kept per capability)."""
        self.mailboxes[mailbox.name] = mailbox
        reason = self.suspensions.pop(mailbox.name, None)
        if reason is not None:
            mailbox.suspend(reason)
        for names in self._capabilities.values():
            names.pop(mailbox.name, None)
        for tag in capabilities:
            about: Any = (metadata or {}).get(tag, {})
            self._capabilities.setdefault(tag, {})[mailbox.name] = about

    def deregister(self, name: str) -> None:
        """Forget a name. Harmless when it is unknown."""
        self.mailboxes.pop(name, None)
        for names in self._capabilities.values():
            names.pop(name, None)

    def get(self, name: str) -> Mailbox | None:
        """The mailbox of that name, or None."""
        return self.mailboxes.get(name)

    def agent_of(self, name: str) -> str:
        """The agent that a process is part of, as others know it: what stands behind a name may be called by its caller's key."""
        mailbox = self.mailboxes.get(name)
        if mailbox is None and "/" in name:  # a key whose own mailbox is gone
            mailbox = self.mailboxes.get(name.partition("/")[0])
            return name if mailbox is None else mailbox.name
        return name if mailbox is None else mailbox.behind or name

    def lookup(self, name: str) -> Mailbox:
        """The mailbox of that name. Raises `UnknownAgent`, which offers the nearest names."""
        mailbox = self.mailboxes.get(name)
        if mailbox is None:
            raise self.unknown(name)
        return mailbox

    def unknown(self, name: str) -> UnknownAgent:
        """The error for a name that is not here, with the nearest that are; none that stands behind another name."""
        shown = (mailbox.name for mailbox in self.mailboxes.values() if not mailbox.behind)
        return UnknownAgent(name, nearest(name, shown))

    def lookup_all(self, pattern: str) -> list[Mailbox]:
        """The mailboxes whose names match a glob (`*`, `?`, `[…]`), by name; those that stand behind another are not among them."""
        found = [(name, self.mailboxes[name]) for name in self.all_names() if fnmatchcase(name, pattern)]
        return [mailbox for _, mailbox in found if not mailbox.behind]

    def has(self, name: str) -> bool:
        """Whether the name is registered."""
        return name in self.mailboxes

    def all_names(self) -> list[str]:
        """Every name, sorted."""
        return sorted(self.mailboxes)

    def find_by_capability(self, tag: str) -> list[str]:
        """The names of those who can do it, sorted."""
        return sorted(self._capabilities.get(tag, {}))

    def find_by_capabilities(self, tags: Iterable[str], match: Literal["any", "all"] = "any") -> list[str]:
        """The names of those who can do any, or all, of it, sorted."""
        found = [set(self._capabilities.get(tag, {})) for tag in tags]
        if not found:
            return []
        return sorted(found[0].union(*found) if match == "any" else found[0].intersection(*found))

    def capability_metadata(self, tag: str, name: str) -> Mapping[str, Any]:
        """What `name` says about that capability of its own; empty where it says nothing."""
        return self._capabilities.get(tag, {}).get(name, {})
