"""StoreCommit: the kernel's port `Commit` over a `RunStore`: states and suspensions outlive the program with the runs.

What a durable handling leaves behind goes the other way, through its `Execution`, so that it is one transaction with the state.
"""

from __future__ import annotations

import asyncio
import json
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from portico.errors import PorticoError, StoreError, StoreUnavailable
from portico.runs.store import Retention, StoreState, StoreSuspension

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.kernel.protocols import Ended, Lineage
    from portico.runs.store import Change, RunStore

logger = logging.getLogger("portico.runs")


def _read(text: bytes) -> dict[str, Any]:
    try:
        return from_json(text)
    except ValueError:  # nested deeper than `pydantic_core` reads
        return json.loads(text)


class StoreCommit:
    """See `Commit`."""

    def __init__(self, store: RunStore, retention: Retention | None = None) -> None:
        self.store = store
        self.retention = retention or Retention()
        """How long is kept there what has ended."""
        self._at_hand: dict[str, bytes] = {}
        """The last submitted state of each process that lives, as JSON text."""

    async def open(self) -> Mapping[str, str]:
        """See `Commit.open`. Raises `StoreError`."""
        await self.store.open()
        try:
            return await self.store.suspensions()
        except StoreUnavailable as error:
            raise StoreError(self.store.where, error.reason) from error

    async def close(self) -> None:
        """See `Commit.close`."""
        self._at_hand.clear()
        await self.store.close()

    async def load(self, name: str) -> dict[str, Any]:
        """See `Commit.load`."""
        text = self._at_hand.get(name)
        if text is not None:
            return _read(text)
        return await self.store.state(name) or {}

    def commit(self, name: str, state: Mapping[str, Any], ended: Ended, lineage: Lineage) -> None:
        """See `Commit.commit`."""
        self.submit(name, state, (), ended, lineage)

    def submit(
        self, name: str, state: Mapping[str, Any] | None, changes: tuple[Change, ...], ended: Ended, lineage: Lineage
    ) -> None:
        """Store a state together with other changes. Raises as `RunStore.submit`."""
        if lineage.broken is not None:
            ended(lineage.broken)
        elif state is None:
            self.store.submit(changes, ended, lineage)
        else:
            text = to_json(state, inf_nan_mode="constants")
            before = self._at_hand.get(name)
            self._at_hand[name] = text
            try:
                self.store.submit((*changes, StoreState(name, state)), partial(self._stored, name, ended), lineage)
            except BaseException:
                if before is None:
                    del self._at_hand[name]
                else:
                    self._at_hand[name] = before
                raise

    def _stored(self, name: str, ended: Ended, error: Exception | None) -> None:
        if error is not None:
            self._at_hand.pop(name, None)  # the store knows better
        ended(error)

    def forget(self, name: str) -> None:
        """See `Commit.forget`."""
        self._at_hand.pop(name, None)

    def suspended(self, name: str, reason: str | None) -> None:
        """See `Commit.suspended`."""
        try:
            self.store.submit((StoreSuspension(name, reason),), partial(self._suspension_stored, name))
        except PorticoError as error:
            self._suspension_stored(name, error)

    async def settled(self) -> None:
        """See `Commit.settled`."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def ended(_: Exception | None) -> None:
            if not done.done():
                done.set_result(None)

        try:
            self.store.submit((), ended)  # after everything before it
        except PorticoError:
            return
        await done

    def _suspension_stored(self, name: str, error: Exception | None) -> None:
        if error is not None:
            logger.error("that %r is suspended, or resumed, could not be stored, and will not outlive the program: %s", name, error)
