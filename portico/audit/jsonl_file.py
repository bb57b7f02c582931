"""FileSink: the audit trail as JSON Lines, in a file to which it only appends.

Whoever rotates it (logrotate, say) moves it away or cuts it: the next entry goes into a new file, and the chain goes on there. Disk
and file are touched on a thread of its own.
"""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from portico.audit.chain import HASH, line
from portico.audit.disk_thread import DiskThread
from portico.audit.verification import UnreadableError, parsed
from portico.errors import ConfigurationError
from portico.runs.audit_entry import ChainHead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portico.runs.audit_entry import SealedEntry

logger = logging.getLogger("portico.audit")

LAST_LINE: Final = 256 * 1024
"""Bytes at the end of the file that are looked at for its last entry; none is nearly as long."""
BEGINNING: Final = b'{"action":"'
"""What every entry begins with: the members of canonical JSON are sorted."""


class FileSink:
    """See `AuditSink`."""

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._file: int | None = None
        self._head = ChainHead()
        self._thread: DiskThread | None = None

    @property
    def name(self) -> str:
        """See `AuditSink.name`."""
        return f"file {self._path}"

    async def open(self) -> ChainHead:
        """See `AuditSink.open`. Raises `OSError`, `ConfigurationError`."""
        return await self._call(self._open)

    async def write(self, entries: Sequence[SealedEntry]) -> None:
        """See `AuditSink.write`. Raises `OSError`."""
        await self._call(self._write, entries)

    async def close(self) -> None:
        """See `AuditSink.close`."""
        if self._thread is not None and not self._thread.ending:
            await self._thread.end()

    async def _call(self, do: Any, *values: Any) -> Any:
        if self._thread is not None and self._thread.hangs:  # it would touch the file of this life
            raise TimeoutError("the disk hangs since before")
        if self._thread is None or self._thread.ending:
            self._thread = DiskThread("portico-audit-file", self._let_go)
        return await self._thread.call(do, *values)

    # --- on the thread ------------------------------------------------------------------------------------------------

    def _open(self) -> ChainHead:
        self._let_go()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._take_hold()
        self._head = self._last_entry()
        return self._head

    def _take_hold(self) -> None:
        file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise ConfigurationError(f"Another program writes its audit trail to {self._path}: give each a file.") from None
        except BaseException:
            os.close(file)
            raise
        self._file = file

    def _let_go(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, entries: Sequence[SealedEntry]) -> None:
        new = [sealed for sealed in entries if sealed.seq > self._head.seq]
        if not new:
            return
        file = self._current()
        size = os.fstat(file).st_size
        data = memoryview(b"".join(map(line, new)))
        try:
            while data:
                data = data[os.write(file, data) :]
            os.fdatasync(file)
        except OSError:
            os.ftruncate(file, size)  # half of an entry would be in the way of the next
            raise
        self._head = ChainHead(new[-1].seq, new[-1].hash)

    def _current(self) -> int:
        """The file that stands at the path: a new one, where the one that was opened was moved away."""
        if self._file is not None:
            try:
                there, here = self._path.stat(), os.fstat(self._file)
            except FileNotFoundError:
                self._let_go()
            else:
                if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
                    self._let_go()
        if self._file is None:
            self._take_hold()
            self._look_at_what_is_there()
        assert self._file is not None  # noqa: S101  # just taken hold of
        return self._file

    def _look_at_what_is_there(self) -> None:
        """Where another file has come to stand at the path. Raises `ConfigurationError` where that is no audit trail."""
        assert self._file is not None  # noqa: S101  # just taken hold of
        if os.fstat(self._file).st_size:
            try:
                self._last_entry()
            except ConfigurationError:
                self._let_go()
                raise

    def _last_entry(self) -> ChainHead:
        """Where the chain in the file stands. What a kill has left of an entry at its end is cut off.

        Raises:
            ConfigurationError: it is no audit trail. It stays as it is.
        """
        assert self._file is not None  # noqa: S101  # `_open` has taken hold of it
        size = os.fstat(self._file).st_size
        end = os.pread(self._file, LAST_LINE, max(0, size - LAST_LINE))
        whole, newline, rest = end.rpartition(b"\n")
        head = ChainHead()
        if newline:
            head = self._head_in(whole.rpartition(b"\n")[2] + b"\n")
        elif size > LAST_LINE or not rest.startswith(BEGINNING[: len(rest)]):
            raise self._foreign("has no entry of an audit trail")
        if rest:  # not before it is known whose file this is
            logger.warning("the audit trail %s ended within an entry: %d bytes of it were removed", self._path, len(rest))
            os.ftruncate(self._file, size - len(rest))
        return head

    def _head_in(self, last: bytes) -> ChainHead:
        try:
            entry = parsed(last)
            return ChainHead(int(entry["seq"]), str(entry[HASH]))
        except (UnreadableError, KeyError, TypeError, ValueError):
            raise self._foreign("ends with a line that is no entry of an audit trail") from None

    def _foreign(self, what: str) -> ConfigurationError:
        return ConfigurationError(f"{self._path} {what}: move the file away, or name another.")
