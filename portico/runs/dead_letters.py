"""DeadLetters: what failed after its retries, with its reason, until it is sent again.

Two kinds: stored runs that ended so (the store lists them), and messages that belonged to no stored run, such as what a plain ask's
handler sent on; of these the newest are remembered in memory.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from portico.errors import NotRedrivable, UnknownRun
from portico.kernel.messages import reserved

if TYPE_CHECKING:
    from portico.kernel.delivery import Delivery
    from portico.runs.book import RunBook
    from portico.runs.record import RunRecord
    from portico.runs.store import RunQuery

REMEMBERED: Final = 1000
"""How many of the second kind are remembered."""
COUNTED: Final = 1000
"""How many agents are counted by name."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One of them. Times are seconds since the epoch."""

    id: str
    """The run's id, or the message's."""
    agent: str
    """Whom it was for."""
    operation: str
    """What that was asked: the message's type."""
    payload: Any
    """The request; None where it is kept no more."""
    reason: str
    """Why it was given up."""
    attempts: int
    """How often its handling had begun."""
    created: float
    """When it was accepted, or sent."""
    run_id: str | None
    """Its run, where it is one."""
    principal: str | None
    """Whose it is."""
    one_way: bool
    """Whether nobody waited for a reply."""
    redacted: bool = False
    """Whether its request had secret fields, which were not stored: then it cannot be sent again."""


class DeadLetters:
    """Those of one book."""

    def __init__(self, book: RunBook) -> None:
        self._book = book
        self._messages: OrderedDict[str, DeadLetter] = OrderedDict()
        self.total = 0
        """How many there have been in this life of the program, of both kinds."""
        self.by_agent: dict[str, int] = {}
        """The same by agent; those of further agents than `COUNTED` stand under an empty name."""

    def count(self, agent: str) -> None:
        """One more."""
        self.total += 1
        name = agent if agent in self.by_agent or len(self.by_agent) < COUNTED else ""
        self.by_agent[name] = self.by_agent.get(name, 0) + 1

    def bury(self, delivery: Delivery, reason: str) -> None:
        """The kernel will not deliver a message (again). Of what belongs to a stored run, or is asked, others hear."""
        message = delivery.message
        if delivery.durable is not None or not delivery.one_way or reserved(message.type):
            return
        origin = message.origin
        self.count(message.recipient)
        self._messages[message.id] = DeadLetter(
            message.id,
            message.recipient,
            message.type,
            message.payload,
            reason,
            message.attempt + 1,
            message.timestamp,
            None,
            origin.principal if origin is not None else None,
            one_way=True,
        )
        if len(self._messages) > REMEMBERED:
            self._messages.popitem(last=False)

    async def page(self, query: RunQuery) -> list[DeadLetter]:
        """At most `limit`, the newest first: `query` says whose, of which agent, and before which."""
        records = await self._book.store.runs(query)
        found = [_of(one) for one in records]
        found += [letter for letter in self._messages.values() if self._asked_for(letter, query)]
        found.sort(key=lambda letter: (letter.created, letter.id), reverse=True)
        return found[: query.limit]

    async def find(self, letter_id: str, principal: str | None, *, everyone: bool = False) -> DeadLetter:
        """The dead letter of that id. Raises `UnknownRun`; `NotRedrivable` where the run of that id is no dead letter."""
        letter = self._messages.get(letter_id)
        if letter is None:
            record = await self._book.store.run(letter_id)
            letter = _of(record) if record is not None else None
        if letter is None or not (everyone or letter.principal == principal):
            raise UnknownRun(letter_id)
        if not letter.reason:
            raise NotRedrivable(letter_id, "it is no dead letter, or was sent again already.")
        return letter

    async def place(self, letter_id: str, principal: str | None, *, everyone: bool = False) -> tuple[float, str]:
        """Where a page goes on after that one, also where it was sent again meanwhile. Raises `UnknownRun`."""
        letter = self._messages.get(letter_id)
        if letter is None:
            record = await self._book.store.run(letter_id)
            letter = _of(record) if record is not None else None
        if letter is None or not (everyone or letter.principal == principal):
            raise UnknownRun(letter_id)
        return letter.created, letter.id

    def forget(self, letter: DeadLetter) -> None:
        """It was sent again, as a new run."""
        self._messages.pop(letter.id, None)

    def _asked_for(self, letter: DeadLetter, query: RunQuery) -> bool:
        mine = query.everyone or letter.principal == query.principal
        older = query.before is None or (letter.created, letter.id) < query.before
        return mine and older and (query.agent is None or letter.agent == query.agent)


def _of(record: RunRecord) -> DeadLetter:
    return DeadLetter(
        record.run_id,
        record.agent,
        record.operation,
        record.payload,
        record.dead or "",
        record.attempts,
        record.created,
        record.run_id,
        record.principal,
        record.one_way,
        record.redacted or record.stripped,
    )
