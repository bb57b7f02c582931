"""The chain: each entry carries the hash of the one before it, so that none can be changed, removed or put in unnoticed.

The hash is SHA-256 over the entry as canonical JSON (RFC 8785), with its number and the hash before it. Whoever can write may write
a whole chain anew: only a hash that was noted elsewhere tells of that. Pure functions; `verification.py` goes the other way.
"""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from portico.runs.audit_entry import AuditEntry, ChainHead, SealedEntry

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION: Final = 1
"""Of the form of entries."""
ALGORITHM: Final = "sha256"
"""Of their hashes."""
HASH: Final = "hash"
"""The member of a shown entry that its hash is not over."""
MICROSECONDS: Final = 1_000_000
"""In a second."""

_AS_THEY_ARE: Final = tuple(about.name for about in fields(AuditEntry) if about.name not in ("at_us", "details"))


def seal(entry: AuditEntry, head: ChainHead) -> SealedEntry:
    """The entry, in its place behind `head`."""
    document = _document(entry, head.seq + 1, head.hash)
    return SealedEntry(head.seq + 1, entry, head.hash, hash_of(document))


def head_of(sealed: SealedEntry) -> ChainHead:
    """Where a chain stands whose last entry this is."""
    return ChainHead(sealed.seq, sealed.hash)


def shown(sealed: SealedEntry) -> dict[str, Any]:
    """An entry as it is shown everywhere: plain data. What is not known is left out."""
    return {**_document(sealed.entry, sealed.seq, sealed.prev), HASH: sealed.hash}


def line(sealed: SealedEntry) -> bytes:
    """The same as one line of JSON Lines."""
    return canonical(shown(sealed)) + b"\n"


def hash_of(document: Mapping[str, Any]) -> str:
    """The hash of an entry that is shown without its own: 64 hex digits."""
    return sha256(canonical(document)).hexdigest()


def canonical(value: Any) -> bytes:
    """Canonical JSON of what entries are made of: texts, whole numbers below 2**53, true, false, null, mappings (RFC 8785).

    Raises:
        ValueError: there is something else in it.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _document(entry: AuditEntry, seq: int, prev: str) -> dict[str, Any]:
    document: dict[str, Any] = {"v": VERSION, "alg": ALGORITHM, "seq": seq, "at": time_of(entry.at_us)}
    for name in _AS_THEY_ARE:
        value = getattr(entry, name)
        if value is not None:
            document[name] = value
    if entry.details is not None:
        document["details"] = dict(entry.details)
    document["prev"] = prev
    return document


def time_of(at_us: int) -> str:
    """A time as RFC 3339 has it, in UTC, with all its microseconds. What is no time, as a disk may have it, is shown as it is."""
    try:
        seconds, rest = divmod(at_us, MICROSECONDS)
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:06d}Z"
    except (TypeError, ValueError, OverflowError, OSError):
        return repr(at_us)  # a text that looks like the time that it was must not have its hash
