"""Verification: goes along a chain and tells the first entry that does not fit.

It reads entries as they are shown, wherever they come from: a store, a file, another gateway. It trusts none of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from portico.audit.chain import ALGORITHM, HASH, VERSION, hash_of
from portico.runs.audit_entry import GENESIS, AuditAction

if TYPE_CHECKING:
    from collections.abc import Mapping


class UnreadableError(Exception):
    """A line is no entry. Its text says why."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong."""

    seq: int | None
    """The number of the first entry that does not fit; None where it has none."""
    place: int
    """How many entries stand before it."""
    reason: str
    """A sentence."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of it."""

    entries: int
    """How many there are, up to the first that does not fit."""
    first: int
    """The number of the first; 0 where there is none."""
    last: int
    """The number of the last."""
    head: str
    """The hash of the last; `GENESIS` where there is none."""
    fault: Fault | None
    """What is wrong first; None where nothing is."""


class Verification:
    """One look at one chain: hand in each entry, in order, then ask for the verdict.

    Args:
        head: the hash of an entry that must be there, noted at another time or place; None where there is none.
        partly: entries before the first need not be there: it is a part of a chain.
    """

    def __init__(self, head: str | None = None, *, partly: bool = False) -> None:
        self._wanted = head
        self._partly = partly
        self._entries = 0
        self._first = 0
        self._last = 0
        self._begin = GENESIS
        self._head = GENESIS
        self._found = head is None
        self._anchored = False
        self._fault: Fault | None = None

    def add(self, entry: Mapping[str, Any]) -> None:
        """The next entry, as it is shown. After the first fault, nothing is looked at any more."""
        if self._fault is not None:
            return
        reason = self._objection(entry)
        if reason is not None:
            self.refuse(reason, entry.get("seq"))
        else:
            self._entries += 1

    def add_line(self, line: bytes) -> None:
        """The next entry, as a line of JSON."""
        try:
            entry = parsed(line)
        except UnreadableError as error:
            self.refuse(str(error))
            return
        self.add(entry)

    def refuse(self, reason: str, seq: Any = None) -> None:
        """What comes next is no entry that fits."""
        if self._fault is None:
            self._fault = Fault(seq if type(seq) is int else None, self._entries, reason)

    def verdict(self) -> Verdict:
        """What came of it."""
        fault = self._fault or self._missing()
        return Verdict(self._entries, self._first, self._last, self._head, fault)

    def _objection(self, entry: Mapping[str, Any]) -> str | None:
        """Why an entry does not fit behind those before it."""
        reason = _own_objection(entry)
        if reason is not None:
            return reason
        seq, prev, own = cast("tuple[int, str, str]", (entry["seq"], entry["prev"], entry[HASH]))
        if not self._entries:
            self._first, self._begin = seq, prev
        elif seq != self._last + 1:
            return f"It follows number {self._last}: entries were removed, put in, or moved."
        elif prev != self._head:
            return "The entry before it is another one than when it was written."
        self._last, self._head = seq, own
        self._found = self._found or self._wanted in (own, prev)
        self._anchored = self._anchored or self._anchors(entry)
        return None

    def _anchors(self, entry: Mapping[str, Any]) -> bool:
        """Whether an entry says that exactly those before the first were removed by the gateway itself."""
        details = entry.get("details")
        if entry.get("action") != AuditAction.PRUNED or not isinstance(details, dict):
            return False
        said = cast("dict[str, Any]", details)
        return said.get("through") == self._first - 1 and said.get(HASH) == self._begin

    def _missing(self) -> Fault | None:
        """What is wrong with the ends of the chain."""
        begins = self._first == 1 and self._begin == GENESIS
        if self._entries and not begins and not self._anchored and not self._partly:
            reason = f"The entries before number {self._first} are missing, and none says that they were removed for their age."
            return Fault(self._first, 0, reason)
        if not self._found:
            reason = f"No entry has the hash {self._wanted}: the chain was cut before it, or written anew."
            return Fault(None, self._entries, reason)
        return None


def _own_objection(entry: Mapping[str, Any]) -> str | None:
    """What is wrong with an entry, wherever it stands."""
    if type(entry.get("seq")) is not int or not isinstance(entry.get("prev"), str) or not isinstance(entry.get(HASH), str):
        return "It has no seq, prev or hash."
    if entry.get("v") != VERSION or entry.get("alg") != ALGORITHM:
        return f"It is of version {entry.get('v')!r} with {entry.get('alg')!r}: known are {VERSION} with {ALGORITHM!r}."
    try:
        fits = hash_of({name: value for name, value in entry.items() if name != HASH}) == entry[HASH]
    except ValueError as error:
        return f"It has what no entry has: {error}."
    return None if fits else "It was changed: its hash does not fit."


def parsed(line: bytes) -> dict[str, Any]:
    """A line as an entry that is shown. Raises `UnreadableError`."""
    if not line.endswith(b"\n"):
        raise UnreadableError("The line is cut short.")
    try:
        value: Any = json.loads(line, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"The line is no JSON: {error}.") from None
    if not isinstance(value, dict):
        raise UnreadableError("The line is no JSON object.")
    return cast("dict[str, Any]", value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. Raises `ValueError` for one that has a member twice: people would read the one, and programs the other."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member stands in it twice")
    return found
