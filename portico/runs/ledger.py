"""UsageLedger: writes down what each call of a model took: for the run that it was made in, for the day, and in the run's story.

One per book. It listens to the models (`protocols.WatchesCalls`) and submits to the store before the call's caller goes on: what
the reply of a stored run says was used is stored no later than that; a plain ask waits for no disk, so that a kill may take its
last moments. Above: the book. Below: the store. It prices nothing: answers bring that.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Self

from portico.errors import ModelError, PorticoError
from portico.kernel.protocols import MOST_TOKENS
from portico.runs.event import EventName
from portico.runs.run_view import usage_view
from portico.runs.store import AddUsage
from portico.runs.usage import NANO, SUMS, Usage, UsageRow, day_of, key_of

if TYPE_CHECKING:
    from types import TracebackType

    from portico.kernel.protocols import ModelCall, ModelResponse
    from portico.runs.book import RunBook
    from portico.runs.sinks import Sinks

logger = logging.getLogger("portico.runs")

MOST_HELD: Final = 10_000
"""How many sums are held back while the store takes nothing."""
LONGEST: Final = 200
"""Characters of a model's name: it is a stranger's."""
DEAREST: Final = 1_000_000
"""US dollars that one call may cost: what is said to cost more has no known price."""
LARGEST: Final = 2**63 - 1
"""The largest number that stores can keep."""


class UsageLedger:
    """The ledger of a book."""

    def __init__(self, book: RunBook, sinks: Sinks) -> None:
        self.lost = 0
        """How many calls could be stored nowhere, and are in no sum."""
        self._book = book
        self._sinks = sinks
        self._held: dict[tuple[str | None, ...], UsageRow] = {}

    def calling_model(self, call: ModelCall) -> _Entry:
        """See `WatchesCalls.calling_model`."""
        return _Entry(self, call)

    def enter(self, call: ModelCall, seconds: float) -> None:
        """Write down a call that is over."""
        delivery = call.delivery
        journal = delivery.journal if delivery is not None else None
        origin = delivery.message.origin if delivery is not None else None
        run_id = journal.run_id if journal is not None else ""
        answered = call.response.model if call.response is not None else ""
        row = UsageRow(
            run_id=run_id,
            day=day_of(self._book.clock.time()),
            agent=call.agent,
            principal=origin.principal if origin is not None else None,
            provider=_name(call.identity.provider),
            model=_name(answered or call.identity.model),
            usage=_usage(call, seconds),
        )
        run = self._book.living(run_id)
        if run is not None:
            run.use(row)
            run.tell(EventName.MODEL_CALL, _told(call, row))
        self._store(row)
        self._sinks.used(row)

    # --- storing ------------------------------------------------------------------------------------------------------

    def _store(self, row: UsageRow) -> None:
        def ended(error: Exception | None) -> None:
            if error is not None:
                self._hold(row)
            elif self._held:
                self.make_good()

        try:
            self._book.store.submit((AddUsage(row),), ended)
        except PorticoError:
            self._hold(row)

    def make_good(self) -> None:
        """Submit what the store did not take before."""
        held, self._held = self._held, {}
        for row in held.values():
            self._store(row)

    def _hold(self, row: UsageRow) -> None:
        self._sinks.has_failed("usage")
        key = key_of(row)
        there = self._held.get(key)
        usage = replace(row.usage)
        if there is not None:
            usage.add(there.usage)
        if max(getattr(usage, name) for name in SUMS) > LARGEST:  # no store will ever take it: it would come again for ever
            self._lose(row, "too large a number is among what calls of models took")
        elif there is not None or len(self._held) < MOST_HELD:
            self._held[key] = replace(row, usage=usage)
        else:
            self._lose(row, "the store takes no usage, and too much of it waits")

    def _lose(self, row: UsageRow, why: str) -> None:
        if not self.lost:
            logger.error("%s: some calls of models are not counted", why)
        self.lost += row.usage.calls


class _Entry:
    """One call, while it lasts."""

    __slots__ = ("_began", "_call", "_ledger")

    def __init__(self, ledger: UsageLedger, call: ModelCall) -> None:
        self._ledger = ledger
        self._call = call
        self._began = 0.0

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ledger.enter(self._call, time.monotonic() - self._began)


def tokens_of(call: ModelCall) -> tuple[int | None, int | None] | None:
    """How many a call that is over has read and written, each None where that is not known; None where the model never began."""
    if call.response is not None:
        return _known(call.response.tokens_in), _known(call.response.tokens_out)
    error = call.error
    if not isinstance(error, ModelError):
        return None, None
    return (_known(error.tokens[0]), _known(error.tokens[1])) if error.began else None


def cost_of(response: ModelResponse) -> float | None:
    """US dollars that an answer cost; None where that is not known."""
    cost = response.cost_usd
    return cost if cost is not None and 0 <= cost <= DEAREST else None


def _usage(call: ModelCall, seconds: float) -> Usage:
    response, taken = call.response, tokens_of(call)
    usage = Usage(calls=1, failed_calls=int(response is None), duration_us=round(seconds * 1_000_000))
    if taken is None:
        return usage  # refused before the model began: it took nothing
    usage.tokens_in, usage.tokens_out = taken[0] or 0, taken[1] or 0
    usage.unknown_calls = int(None in taken)
    cost = None if response is None else cost_of(response)
    if cost is None:
        usage.unpriced_calls = 1
    else:
        usage.cost = int((Decimal(str(cost)) * NANO).to_integral_value())
    if response is not None:
        usage.tokens_cached = _known(response.tokens_cached) or 0
        usage.tokens_cache_written = _known(response.tokens_cache_written) or 0
        usage.tokens_reasoning = _known(response.tokens_reasoning) or 0
    return usage


def _known(tokens: int | None) -> int | None:
    """A number that can be one: a provider may be anybody's, and may say anything."""
    return tokens if tokens is not None and 0 <= tokens <= MOST_TOKENS else None


def _told(call: ModelCall, row: UsageRow) -> dict[str, Any]:
    """The call as the run's story has it."""
    shown = usage_view(row.usage)
    error = call.error if call.response is None else None
    return {
        "agent": row.agent,
        "provider": row.provider,
        "model": row.model,
        "tokens_in": shown["tokens_in"],
        "tokens_out": shown["tokens_out"],
        "cost_usd": shown["cost_usd"],
        "seconds": shown["seconds"],
        "error": None if error is None else type(error).__name__,
    }


def _name(text: str) -> str:
    """A name that can be stored and printed."""
    return "".join(one if one.isprintable() else "�" for one in text[:LONGEST])
