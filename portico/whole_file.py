"""A small file that is replaced as a whole: a reader finds the old or the new one, never half of it, also after a power cut.

For keys, pins and tokens. Below everything; it knows no room and no format.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Nobody else who locks this path changes the file meanwhile; waits. Its directory has to be there. Raises `OSError`."""
    # A file of its own: the file itself is replaced by each write, and a lock on the old one would keep nobody out.
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """Put it there, readable by its owner only (0600). Raises `OSError`."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # made with mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)  # the rename itself is stored
    finally:
        os.close(directory)
