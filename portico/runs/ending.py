"""Ending: the future of a stored run's delivery. Its book hears of the end at once, without a task that waits for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from portico.kernel.messages import Message

if TYPE_CHECKING:
    from portico.runs.book import RunBook
    from portico.runs.run import Run


class Ending(asyncio.Future[Message]):
    """Made on the event loop. Resolved by the kernel, as any future of a delivery."""

    def __init__(self, run: Run, book: RunBook) -> None:
        super().__init__()
        self._run: Run | None = run
        self._book = book

    def set_result(self, result: Message, /) -> None:
        """The reply, which is stored."""
        super().set_result(result)
        run, self._run = self._run, None
        if run is not None:
            self._book.succeeded(run, result)

    def set_exception(self, exception: type | BaseException, /) -> None:
        """How it ended otherwise."""
        super().set_exception(exception)
        error = self.exception()  # heard: nobody else awaits it
        run, self._run = self._run, None
        if error is not None and run is not None:
            self._book.failed(run, error)
