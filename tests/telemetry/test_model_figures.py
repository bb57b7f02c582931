"""What models took is the same wherever it is shown: at /usage, in the metrics and on the spans."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from portico.agents.model_agent import ModelAgent
from portico.app.factory import create_app
from portico.errors import ModelError
from portico.kernel.protocols import ModelResponse
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.llm.scripted import ScriptedModel
from tests.app.serving import listening
from tests.telemetry.receiver import receiving

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.anyio

ANSWERS: Sequence[ModelResponse | Exception] = (
    ModelResponse("Hi.", "m", 7, 3, cost_usd=0.5),
    ModelResponse("Hi.", "m", 2**70, -1, cost_usd=-1.0),
    ModelError("scripted", "too many", status=429, began=False),
    ModelError("scripted", "broken", status=500, tokens=(100, None)),
    ModelError("scripted", "cut", tokens=(10, 2)),
    OSError("the wire was cut"),
)


async def test_calls_of_models_are_counted_alike_by_all_who_count_them(monkeypatch: pytest.MonkeyPatch) -> None:
    agents = [ModelAgent(f"a{number}", provider=ScriptedModel([answer])) for number, answer in enumerate(ANSWERS)]
    with receiving() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{receiver.endpoint}/v1/traces")
        app = create_app(Runtime(Supervisor("root", children=[*agents], max_restarts=0)))
        async with asyncio.timeout(40), listening(app) as served:
            for agent in agents:
                await served.client.post(f"/agents/{agent.name}", json={"message": "?"})
            usage = (await served.client.get("/usage?by=agent")).json()["rows"]
            text = (await served.client.get("/metrics")).text

    shown: dict[str, dict[str, float]] = {agent.name: {} for agent in agents}
    errors: dict[str, str | None] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            agent = sample.labels.get("agent")
            if sample.name.startswith("portico_model_"):
                shown[agent or ""][sample.name] = sample.value
            elif sample.name == "gen_ai_client_token_usage_sum":
                shown[agent or ""][sample.labels["gen_ai_token_type"]] = sample.value
            elif sample.name == "gen_ai_client_operation_duration_seconds_count":
                errors[agent or ""] = sample.labels["error_type"] or None
    for row in usage:
        figures = shown[row["agent"]]
        assert figures.get("portico_model_calls_unpriced_total", 0) == row["unpriced_calls"], row
        assert figures.get("portico_model_calls_uncounted_total", 0) == row["unknown_calls"], row
        assert figures.get("portico_model_cost_usd_total", 0) == (row["cost_usd"] or 0), row
        assert figures.get("input", 0) + figures.get("output", 0) == (row["tokens_in"] or 0) + (row["tokens_out"] or 0), row
    spans = {span.attributes["gen_ai.agent.name"]: span for span in receiver.spans if span.name.startswith("chat")}
    told = [[span.attributes.get(f"gen_ai.usage.{one}_tokens") for one in ("input", "output")] for span in spans.values()]
    assert told == [[7, 3], [None, None], [None, None], [100, None], [10, 2], [None, None]]
    assert len(spans) == len(usage) == len(ANSWERS)
    assert errors == {agent: span.attributes.get("error.type") for agent, span in spans.items()}
    assert list(errors.values()) == [None, None, "model-failed", "model-failed", "model-failed", "OSError"]
    assert [span.attributes.get("http.response.status_code") for span in spans.values()] == [None, None, 429, 500, None, None]
