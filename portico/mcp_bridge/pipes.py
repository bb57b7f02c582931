"""Lines over pipes: what the stdio transport is made of, at both of its ends. Knows file descriptors, not MCP.

No thread waits in a read here, so that whoever reads or writes can be cancelled.
"""

from __future__ import annotations

import fcntl
import os
import select
import termios
from array import array
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CHUNK: Final = 65536
"""Bytes read at once."""
MAX_LINE: Final = 32 * 1024 * 1024
"""Bytes that one line may have, where nothing else is said."""


class LineTooLongError(Exception):
    """A line that is longer than it may be."""

    def __init__(self, most: int) -> None:
        super().__init__(f"a line is longer than {most} bytes")


class CutLine(bytes):
    """The beginning of a line that was too long. What came after it was read and thrown away."""

    tail = b""
    """Its end."""


async def read_lines(fd: int, most: int = MAX_LINE, *, cut: bool = False) -> AsyncIterator[bytes]:
    """Every line, without its end, until the other side closes.

    Args:
        fd: the descriptor that is read.
        most: bytes that a line may have.
        cut: whether a line that is longer is yielded as a `CutLine`.

    Raises:
        LineTooLongError: a line is longer, and is not to be cut.
    """
    pieces: list[bytes] = []
    size = 0
    while chunk := await _read(fd):
        *lines, tail = chunk.split(b"\n")
        for line in lines:
            pieces.append(line)
            size += len(line)
            yield b"".join(pieces) if size <= most or not cut else _cut(pieces)
            pieces, size = [], 0
        pieces.append(tail)
        size += len(tail)
        if size > most:
            if not cut:
                raise LineTooLongError(most)
            whole = b"".join(pieces)
            pieces = [whole[:CHUNK], whole[CHUNK:][-CHUNK:]]  # its ends
    if size:
        yield b"".join(pieces) if size <= most or not cut else _cut(pieces)


def _cut(pieces: list[bytes]) -> CutLine:
    whole = b"".join(pieces)
    line = CutLine(whole[:CHUNK])
    line.tail = whole[-CHUNK:]
    return line


async def write_all(fd: int, data: bytes) -> None:
    """Write everything. Raises `OSError` where the other side has closed."""
    left = memoryview(data)
    while left:
        left = left[await write_some(fd, left) :]


async def write_some(fd: int, data: memoryview) -> int:
    """Write the beginning, as soon as there is room. Returns how many bytes that was. Raises as `write_all`."""
    while True:
        with suppress(PermissionError):  # a regular file
            await anyio.wait_writable(fd)
        with suppress(BlockingIOError):
            # A pipe that has room has it for this many bytes: so even a descriptor that blocks does not.
            return os.write(fd, data[: select.PIPE_BUF])


def unread(fd: int) -> int:
    """How many bytes of what was written into a pipe the other side has not read, also when there is no other side any more."""
    count = array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


def is_readable(fd: int) -> bool:
    """Whether there is something to read, or the end, without waiting."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


async def _read(fd: int) -> bytes:
    while True:
        with suppress(PermissionError):  # a regular file cannot be waited for; it never blocks either
            await anyio.wait_readable(fd)
        with suppress(BlockingIOError):
            return os.read(fd, CHUNK)
