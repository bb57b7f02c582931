"""Outlets: where the signals of one gateway go: a target for each, one resource, and one ear for what the SDK complains about.

Above: the app makes it of its environment; `setup.py` sends traces by it, and whoever sends metrics and logs does likewise. Nothing
of OpenTelemetry's SDK is imported before somebody has a target and asks for the resource.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from portico.telemetry.complaints import Complaints
from portico.telemetry.target import Signal, otlp_target, wants_console

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.resources import Resource

    from portico.telemetry.target import Target


class Outlets:
    """What the environment says of signals.

    Args:
        environ: the environment: OpenTelemetry's own variables.
        service_name: how the service is called unless the environment says so.

    Raises:
        ConfigurationError: an exporter, a protocol or an endpoint that cannot be, of any signal.
    """

    def __init__(self, environ: Mapping[str, str], service_name: str = "portico") -> None:
        self.variables = environ
        self._service_name = service_name
        self._targets = {signal: otlp_target(environ, signal) for signal in Signal}
        self._printed = {signal: wants_console(environ, signal) for signal in Signal}
        self.complaints = Complaints()
        """For all signals: each calls `hear()` when it begins and `stop()` when it has ended."""

    def target(self, signal: Signal) -> Target | None:
        """Where a signal is sent; None for nowhere."""
        return self._targets[signal]

    def printed(self, signal: Signal) -> bool:
        """Whether it is (also) printed."""
        return self._printed[signal]

    @cached_property
    def resource(self) -> Resource:
        """What all signals say of this program. Raises `MissingExtra`."""
        from portico.telemetry.otlp import resource_of  # noqa: PLC0415  # loads the SDK: only where it is wanted

        return resource_of(self.variables, self._service_name)
