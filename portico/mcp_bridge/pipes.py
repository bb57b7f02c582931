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
"""Bytes that one line may have."""


class LineTooLongError(Exception):
    """A line that is longer than `MAX_LINE`."""

    def __init__(self) -> None:
        super().__init__(f"a line is longer than {MAX_LINE} bytes")


async def read_lines(fd: int) -> AsyncIterator[bytes]:
    """Every line, without its end, until the other side closes. Raises `LineTooLongError`."""
    async for line in read_lines_and_gaps(fd):
        if line is None:
            raise LineTooLongError
        yield line


async def read_lines_and_gaps(fd: int) -> AsyncIterator[bytes | None]:
    """The same, but None in place of a line that is too long, as soon as it is; its rest is dropped."""
    pieces: list[bytes] = []
    size = 0
    while chunk := await _read(fd):
        *lines, tail = chunk.split(b"\n")
        for line in lines:
            if size <= MAX_LINE:
                yield b"".join([*pieces, line])
            pieces, size = [], 0
        was_too_long = size > MAX_LINE
        size += len(tail)
        if size <= MAX_LINE:
            pieces.append(tail)
        elif not was_too_long:
            pieces = []
            yield None
    if 0 < size <= MAX_LINE:
        yield b"".join(pieces)


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
