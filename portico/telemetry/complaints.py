"""Complaints: OpenTelemetry's own log lines about an endpoint that is down, let through once a minute, whatever the signal.

Above: whoever sends a signal. It knows the names of the SDK's loggers, and no SDK.
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

LOGGERS: Final = (
    "opentelemetry.attributes",
    "opentelemetry.exporter.otlp.common.http",
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.exporter.otlp.proto.http._common",
    "opentelemetry.exporter.otlp.proto.http._log_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk._logs._internal.export",
    "opentelemetry.sdk._shared_internal",
    "opentelemetry.sdk.metrics._internal.export",
    "opentelemetry.sdk.trace",
    "opentelemetry.sdk.trace.export",
    "opentelemetry.trace.span",
)
"""Who complains."""
OF_CALLERS: Final = "opentelemetry.trace.span"
"""Who of them complains of what callers say: that has a minute of its own, so that no caller hides an endpoint that is down."""
PERIOD: Final = 60.0
"""Seconds in which one complaint is enough."""


class Complaints(logging.Filter):
    """Lets one record per minute pass, of all loggers that share it; and one of what callers say.

    `now`: seconds on a clock that only goes on.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._hearing = 0
        self._silent_until = {True: -math.inf, False: -math.inf}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record passes."""
        now, of_callers = self._now(), record.name == OF_CALLERS
        if now < self._silent_until[of_callers]:
            return False
        self._silent_until[of_callers] = now + PERIOD
        return True

    def hear(self) -> None:
        """From now on, these loggers' records pass here; until `stop()` was called as often."""
        self._hearing += 1
        for name in LOGGERS:
            logging.getLogger(name).addFilter(self)

    def stop(self) -> None:
        """One of those who heard needs it no longer; after the last, the loggers are as they were."""
        self._hearing -= 1
        if not self._hearing:
            for name in LOGGERS:
                logging.getLogger(name).removeFilter(self)
