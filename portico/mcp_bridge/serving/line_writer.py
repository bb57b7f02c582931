"""LineWriter: whole lines into one pipe, from several writers. What is put while it writes goes out together afterwards.

Above: `stdio.py` and the direct path over stdio. Below: `pipes.py`.
"""

from __future__ import annotations

import asyncio
from typing import Final

from portico.mcp_bridge.pipes import write_all

ENOUGH: Final = 1024 * 1024
"""Bytes that may wait to be written before nothing more is begun."""


class LineWriter:
    """Writes to one descriptor while `run` runs."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines: list[bytes] = []
        self._size = 0
        self._more = asyncio.Event()
        self._less = asyncio.Event()

    def put(self, line: bytes) -> None:
        """Write a line, soon; its end is added."""
        self._lines.append(line)
        self._size += len(line)
        self._more.set()

    async def room(self) -> None:
        """Until not too much waits to be written: whoever does not read its answers is not given more of them."""
        await self._below(ENOUGH)

    async def flushed(self) -> None:
        """Until everything is written."""
        await self._below(0)

    async def _below(self, size: int) -> None:
        while self._size > size:
            self._less.clear()
            await self._less.wait()

    async def run(self) -> None:
        """Until it is cancelled. Raises `OSError` where the other side has closed."""
        while True:
            await self._more.wait()
            self._more.clear()
            lines, self._lines = self._lines, []
            lines.append(b"")
            await write_all(self._fd, b"\n".join(lines))
            self._size = sum(map(len, self._lines))
            self._less.set()
