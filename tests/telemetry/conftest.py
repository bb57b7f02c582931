"""What the tests of telemetry share: a gateway that did a bit of everything, run once for all who read what it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.telemetry.everything import everything_shown
from tests.telemetry.receiver import receiving

if TYPE_CHECKING:
    from tests.telemetry.everything import Shown


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """What it shows, on both faces."""
    with receiving() as receiver, pytest.MonkeyPatch.context() as patched:
        patched.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{receiver.endpoint}/v1/metrics")
        patched.setenv("OTEL_METRIC_EXPORT_INTERVAL", "3600000")
        return everything_shown(tmp_path_factory.mktemp("everything"), receiver)
