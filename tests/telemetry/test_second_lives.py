"""One application that lives twice, as under a test client: the second life is as visible as the first."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from portico.app.factory import create_app
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from tests.app.serving import ANY_PORT, listening
from tests.kernel.helpers import Echo
from tests.telemetry.receiver import receiving

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


async def test_spans_figures_logs_and_the_audit_trail_of_a_second_life_arrive(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "3600000")
    settings = replace(ANY_PORT, audit_sinks=("otlp", f"file:{tmp_path / 'audit.jsonl'}"))
    with receiving() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        app = create_app(Runtime(Supervisor("root", children=[Echo("echo")])), settings)
        async with asyncio.timeout(40):
            for life in ("first", "second"):
                async with listening(app, settings) as served:
                    assert (await served.client.post("/agents/echo", json={"life": life})).status_code == 200
                    logging.getLogger("shop").warning("this is the %s life", life)

    assert len(receiver.named("POST /agents/echo")) == len(receiver.named("handle echo.message")) == 2
    durations = [one.proto.histogram.data_points[0] for one in receiver.metrics if one.name == "portico.call.duration"]
    assert [point.count for point in durations] == [1, 2]
    assert durations[0].start_time_unix_nano == durations[1].start_time_unix_nano
    lines = [one.body for one in receiver.logs]
    assert "this is the first life" in lines
    assert "this is the second life" in lines
    story = ["gateway.started", "gateway.stopped"] * 2
    sent = [one.attributes["portico.audit.action"] for one in receiver.logs if one.proto.event_name == "portico.audit"]
    written = [json.loads(line)["action"] for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert sent == written == story
