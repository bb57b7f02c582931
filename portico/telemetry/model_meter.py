"""ModelMeter: counts the calls of models, their tokens and what they cost, by agent and model (OpenTelemetry's GenAI conventions).

Above: `figures.py` reads what is counted. Below: the kernel's tap, one of whose listeners this is. Callers may name models, so
their number is bounded: further ones are `other`.
"""

from __future__ import annotations

from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Final

from portico.histogram import Histogram
from portico.runs.ledger import cost_of, tokens_of
from portico.telemetry.bounded import LONGEST, OTHER, Bounded
from portico.telemetry.error_type import error_type_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from portico.kernel.protocols import ModelCall

SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""The buckets that the conventions advise for calls, in seconds."""
TOKENS: Final = tuple(4**power for power in range(14))
"""Those for tokens: 1, 4, 16 … 67,108,864."""
CHAT: Final = "chat"
"""What is asked of models (`gen_ai.operation.name`)."""
INPUT: Final = "input"
OUTPUT: Final = "output"
MOST_MODELS: Final = 100
"""How many models have series of their own."""
MOST: Final = 2000
"""How many series there are of each kind before they are counted together."""


class Spent:
    """What the calls of one agent to one model cost."""

    __slots__ = ("priced", "uncounted", "unpriced", "usd")

    def __init__(self) -> None:
        self.priced = 0
        """Calls whose price is known."""
        self.usd = 0.0
        """What those cost, in US dollars."""
        self.unpriced = 0
        """Calls whose price is not known."""
        self.uncounted = 0
        """Calls of which nobody said how many tokens they took."""


class ModelMeter:
    """See `WatchesCalls.calling_model`.

    Args:
        agent_of: from the name of a process to the label of its agent: keys of callers are no labels.
        cost_of: what a call cost in US dollars; None where that is not known.
    """

    def __init__(self, agent_of: Callable[[str], str], cost_of: Callable[[ModelCall], float | None] | None = None) -> None:
        self.durations = Bounded(lambda: Histogram(SECONDS), MOST, _without_agent)
        """Seconds, by agent, operation, provider, model and error."""
        self.tokens = Bounded(lambda: Histogram(TOKENS), MOST, _without_agent)
        """Tokens, by agent, operation, provider, model and direction."""
        self.spent = Bounded(Spent, MOST, _without_agent)
        """By agent and model."""
        self.cost_of: Callable[[ModelCall], float | None] = cost_of or told_cost
        self._agent_of = agent_of
        self._models: set[tuple[str, str]] = set()

    @contextmanager
    def calling_model(self, call: ModelCall) -> Generator[None]:
        """Around one call."""
        began = perf_counter()
        try:
            yield
        finally:
            self._ended(call, perf_counter() - began)

    def _ended(self, call: ModelCall, seconds: float) -> None:
        agent = self._agent_of(call.agent)
        provider, model = self._named(call)
        delivery = call.delivery
        traceparent = None if delivery is None else delivery.traceparent
        failed = "" if call.error is None else error_type_of(call.error)
        self.durations[agent, CHAT, provider, model, failed].add(seconds, traceparent)
        taken = tokens_of(call)
        if taken is None:
            return
        for direction, count in zip((INPUT, OUTPUT), taken, strict=True):
            if count is not None:
                self.tokens[agent, CHAT, provider, model, direction].add(count, traceparent)
        spent, cost = self.spent[agent, model], self.cost_of(call)
        spent.uncounted += None in taken
        if cost is None:
            spent.unpriced += 1
        else:
            spent.priced += 1
            spent.usd += cost

    def _named(self, call: ModelCall) -> tuple[str, str]:
        named = call.identity.vendor, call.identity.model[:LONGEST]
        if named not in self._models:
            if len(self._models) >= MOST_MODELS:
                return OTHER, OTHER
            self._models.add(named)
        return named


def told_cost(call: ModelCall) -> float | None:
    """What its answer says, where that can be."""
    return None if call.response is None else cost_of(call.response)


def _without_agent(labels: tuple[str, ...]) -> tuple[str, ...]:
    return (OTHER, *labels[1:])
