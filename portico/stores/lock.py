"""DirectoryLock: keeps a second program out of a data directory.

The system lets go of it when the program ends, however that ends. It works on one machine: not a lock for network file systems.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from portico.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path


class DirectoryLock:
    """A lock on `DIRECTORY/lock`. The file holds the process id of its holder, and stays."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take it, without waiting. Raises `StoreError` where another program, or another store of this one, has it."""
        descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise StoreError(
                str(self._directory), f"another program uses it (process {holder}). Stop that one, or use another directory."
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go of it. Harmless where it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
