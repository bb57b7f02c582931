"""Instruments: the one table of what is measured. Both faces show it: Prometheus at `/metrics`, and OTLP.

A name here is OpenTelemetry's; that for Prometheus comes of it by the rules that OpenTelemetry has for that (dots become `_`, the
unit is the last word, a counter ends with `_total`). Labels have the same names on both faces, so that a dashboard fits whichever
way the figures have come: those of the conventions are written as the conventions write them, ours are one word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from portico.telemetry import semconv


class Kind(Enum):
    """How a figure behaves."""

    COUNTER = "counter"
    """Only grows."""
    LEVEL = "level"
    """How many there are now: those of several gateways add up."""
    GAUGE = "gauge"
    """A state, which does not add up."""
    HISTOGRAM = "histogram"
    """How values are spread."""
    INFO = "info"
    """1, with labels that say something."""


_UNITS: Final = {"s": "seconds", "By": "bytes"}
"""UCUM's units as Prometheus writes them; what stands in braces is a word for people, and no unit."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """One thing that is measured."""

    name: str
    """As OpenTelemetry writes it."""
    kind: Kind
    unit: str
    """By UCUM; `{…}` counts things."""
    about: str
    labels: tuple[str, ...] = ()
    """As OpenTelemetry writes them."""

    @property
    def family(self) -> str:
        """The name for Prometheus, without what the format adds to a counter's (`_total`) or an info's (`_info`)."""
        name, unit = prometheus(self.name), _UNITS.get(self.unit, "")
        if self.kind is Kind.INFO:
            return name.removesuffix("_info")
        return name if not unit or name.endswith(f"_{unit}") else f"{name}_{unit}"

    @property
    def family_labels(self) -> tuple[str, ...]:
        """The labels for Prometheus."""
        return tuple(prometheus(label) for label in self.labels)


def prometheus(name: str) -> str:
    """A name as Prometheus writes it."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", name)


_C, _L, _G, _H = Kind.COUNTER, Kind.LEVEL, Kind.GAUGE, Kind.HISTOGRAM
_AGENT: Final = ("agent",)
_OPERATION: Final = ("agent", "operation")
_SERVER: Final = ("server",)
_MODEL: Final = (*_AGENT, semconv.MODEL_OPERATION_LABEL, semconv.PROVIDER_LABEL, semconv.MODEL_LABEL)

TABLE: Final[tuple[Instrument, ...]] = (
    Instrument(
        semconv.HTTP_SERVER_REQUEST_DURATION,
        _H,
        "s",
        "Seconds of HTTP requests, from their head to the end of the response.",
        (semconv.HTTP_METHOD, semconv.HTTP_ROUTE, semconv.HTTP_STATUS, semconv.URL_SCHEME, semconv.ERROR_TYPE),
    ),
    Instrument(
        semconv.CALL_DURATION,
        _H,
        "s",
        "Seconds from the admission of a call to its end, by outcome: ok, or the slug of the error.",
        (*_OPERATION, "kind", "outcome"),
    ),
    Instrument(semconv.CALLS_ADMITTED, _C, "{call}", "Calls that were admitted.", (*_OPERATION, "kind")),
    Instrument(semconv.CALLS_REJECTED, _C, "{call}", "Calls that were refused, by the slug of the error.", (*_OPERATION, "reason")),
    Instrument(semconv.CALLS_IN_FLIGHT, _L, "{call}", "Calls that were admitted and have not ended.", _OPERATION),
    Instrument(
        semconv.HANDLING_DURATION,
        _H,
        "s",
        "Seconds that a message was in its handler's hands, whoever sent it; its wait in the mailbox is not among them.",
        _OPERATION,
    ),
    Instrument(semconv.MAILBOX_MESSAGES, _L, "{message}", "Messages that wait in an agent's mailbox.", _AGENT),
    Instrument(
        semconv.MAILBOX_LIMIT,
        _L,
        "{message}",
        "Messages that may wait in an agent's mailbox; of a keyed agent, in those of all keys in use.",
        _AGENT,
    ),
    Instrument(
        semconv.MAILBOX_EXPIRED,
        _C,
        "{message}",
        "Messages that were dropped because their deadline passed before they were handled.",
        _AGENT,
    ),
    Instrument(semconv.AGENT_UP, _G, "", "1 while an agent takes calls, else 0.", _AGENT),
    Instrument(
        semconv.AGENT_PROCESSES, _L, "{process}", "Processes behind an agent's name: members of a pool, keys in use.", _AGENT
    ),
    Instrument(semconv.AGENT_RESTARTS, _C, "{restart}", "Restarts of an agent, or of all behind its name.", _AGENT),
    Instrument(
        semconv.AGENT_CRASHES, _C, "{crash}", "Lives of an agent, or of one behind its name, that ended in a crash.", _AGENT
    ),
    Instrument(
        semconv.DEAD_LETTERS, _C, "{message}", "Messages that were given up after their retries, by whom they were for.", _AGENT
    ),
    Instrument(semconv.RUNS, _L, "{run}", "Stored runs that have not ended, by status.", ("status",)),
    Instrument(semconv.RUNS_ENDED, _C, "{run}", "Stored runs that have ended, by status.", ("status",)),
    Instrument(semconv.STORE_UP, _G, "", "1 while runs can be stored, else 0."),
    Instrument(semconv.JOURNAL_WAITING, _L, "{transaction}", "Transactions that were submitted and are not stored yet."),
    Instrument(semconv.JOURNAL_OLDEST, _G, "s", "Seconds for which the oldest of them has waited."),
    Instrument(semconv.JOURNAL_WAIT, _H, "s", "Seconds from the submission of a transaction until it was stored, or refused."),
    Instrument(semconv.JOURNAL_COMMIT, _H, "s", "Seconds that a group of transactions took to be written to the disk together."),
    Instrument(
        semconv.MCP_SERVER_OPERATION_DURATION,
        _H,
        "s",
        "Seconds of what MCP clients asked this gateway, by method and tool.",
        (semconv.METHOD_LABEL, semconv.TOOL_LABEL, semconv.ERROR_TYPE),
    ),
    Instrument(
        semconv.MCP_CLIENT_OPERATION_DURATION,
        _H,
        "s",
        "Seconds of calls to an external MCP server, from the agent's wish to the end.",
        (semconv.METHOD_LABEL, "server", semconv.ERROR_TYPE),
    ),
    Instrument(semconv.MCP_UPSTREAM_CONNECTED, _G, "", "1 while an external MCP server is connected, else 0.", _SERVER),
    Instrument(semconv.MCP_UPSTREAM_TOOLS, _G, "{tool}", "Tools that it has, or had when it was connected last.", _SERVER),
    Instrument(semconv.MCP_UPSTREAM_IN_FLIGHT, _L, "{call}", "Calls to it that are under way.", _SERVER),
    Instrument(semconv.MCP_UPSTREAM_WAITING, _L, "{call}", "Calls that wait for their turn with it.", _SERVER),
    Instrument(semconv.MCP_UPSTREAM_RECONNECTS, _C, "{connection}", "How often it was connected anew.", _SERVER),
    Instrument(
        semconv.GEN_AI_CLIENT_OPERATION_DURATION,
        _H,
        "s",
        "Seconds of requests to models.",
        (*_MODEL, semconv.ERROR_TYPE),
    ),
    Instrument(
        semconv.GEN_AI_CLIENT_TOKEN_USAGE,
        _H,
        "{token}",
        "Tokens of requests to models, read (input) and written (output).",
        (*_MODEL, semconv.TOKEN_LABEL),
    ),
    Instrument(
        semconv.MODEL_COST,
        _C,
        "{USD}",
        "US dollars that requests to models cost, as far as their price is known.",
        _MODEL[:1] + _MODEL[3:],
    ),
    Instrument(semconv.MODEL_UNPRICED, _C, "{call}", "Requests to models whose price is not known.", _MODEL[:1] + _MODEL[3:]),
    Instrument(
        semconv.MODEL_UNCOUNTED,
        _C,
        "{call}",
        "Requests to models that did not say how many tokens they took.",
        _MODEL[:1] + _MODEL[3:],
    ),
    Instrument(semconv.STREAMS_OPEN, _L, "{stream}", "Event streams that are open."),
    Instrument(semconv.SOCKETS_OPEN, _L, "{socket}", "WebSockets that are open."),
    Instrument(semconv.READY, _G, "", "1 while the gateway is ready, as its probe says, else 0."),
    Instrument(semconv.DRAINING, _G, "", "1 while the gateway takes no new calls, else 0."),
    Instrument(semconv.LOOP_LAG, _G, "s", "Seconds by which the event loop was late, at its worst within the last minute."),
    Instrument(
        semconv.LOOP_STALLS,
        _C,
        "{stall}",
        "How often the event loop stood still for longer than the watchdog allows, by the agent that blocked it.",
        _AGENT,
    ),
    Instrument(semconv.LOOP_STALLED, _C, "s", "Seconds for which it stood still so.", _AGENT),
    Instrument(
        semconv.SINK_FAILURES, _C, "{failure}", "Failures of what is told of calls, and without which they go on.", ("sink",)
    ),
    Instrument(semconv.EXPORTS, _C, "{export}", "Attempts to send metrics over OTLP, by outcome.", ("signal", "outcome")),
    Instrument(
        semconv.SPANS_LOST, _C, "{span}", "Spans that nobody has got: there was no room for them, or they could not be sent."
    ),
    Instrument(semconv.BUILD, Kind.INFO, "", "What runs here.", ("version", "python")),
)
"""All of them, in the order in which they are shown."""
INSTRUMENTS: Final = {one.name: one for one in TABLE}
"""By name."""
