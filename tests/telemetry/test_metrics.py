"""The figures of a gateway on both faces: `/metrics` and OTLP, out of one reading; few series, whatever comes."""

from __future__ import annotations

import asyncio
import importlib
import logging
import re
import time
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from portico.app.gateway import HTTPGateway
from portico.app.settings import GatewayConfig
from portico.errors import AgentError, ConfigurationError, PorticoError
from portico.histogram import Histogram
from portico.kernel.dynamic_supervisor import DynamicSupervisor
from portico.kernel.keyed import keyed
from portico.kernel.mailbox import Mailbox
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import ModelCall, ModelIdentity, ModelResponse
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.operations.catalogue import endpoints_of
from portico.operations.decorators import operation
from portico.runs.call import Call
from portico.runs.dispatcher import Dispatcher
from portico.telemetry.bounded import OTHER, Bounded
from portico.telemetry.call_meter import MOST_OPERATIONS, MOST_OUTCOMES, CallMeter, Tally
from portico.telemetry.instruments import INSTRUMENTS, TABLE, Kind, prometheus
from portico.telemetry.mcp_meter import MCPMeter
from portico.telemetry.metrics import Metrics
from portico.telemetry.metrics_push import deltas_of, interval_of
from portico.telemetry.model_meter import MOST, MOST_MODELS, ModelMeter
from portico.telemetry.readings import Buckets, Reading
from portico.telemetry.request_meter import MOST as MOST_ROUTES
from portico.telemetry.request_meter import Requests
from tests.app.serving import served
from tests.cli.programs import REPOSITORY
from tests.routes.agents import Crashing, Echo
from tests.telemetry.everything import OPENMETRICS, SPAN, TRACE, TRACEPARENT, families_of
from tests.telemetry.receiver import Measured, Receiver, receiving, receiving_grpc, values
from tests.telemetry.trouble import KINDS, trouble

if TYPE_CHECKING:
    from tests.telemetry.everything import Shown

pytestmark = pytest.mark.anyio

ENDPOINT = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
ASK = {"text": "a"}


# --- the table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("portico.call.duration", "portico_call_duration_seconds"),
        ("http.server.request.duration", "http_server_request_duration_seconds"),
        ("gen_ai.client.token.usage", "gen_ai_client_token_usage"),
        ("portico.mailbox.limit.messages", "portico_mailbox_limit_messages"),
        ("portico.event_loop.stalled.time", "portico_event_loop_stalled_time_seconds"),
        ("portico.build.info", "portico_build"),
    ],
)
def test_the_prometheus_name_comes_of_opentelemetrys(name: str, family: str) -> None:
    assert INSTRUMENTS[name].family == family


def test_no_two_instruments_have_one_name_on_either_face() -> None:
    assert len({one.name for one in TABLE}) == len({one.family for one in TABLE}) == len(TABLE)
    assert all(re.fullmatch(r"[a-z_]+", label) for one in TABLE for label in one.family_labels)
    assert all(one.about.endswith(".") for one in TABLE)


def test_names_of_the_conventions_are_theirs() -> None:
    gen_ai_metrics, mcp_metrics, http_metrics = (
        importlib.import_module(f"opentelemetry.semconv.{name}")
        for name in ("_incubating.metrics.gen_ai_metrics", "_incubating.metrics.mcp_metrics", "metrics.http_metrics")
    )

    conventions = {
        http_metrics.HTTP_SERVER_REQUEST_DURATION,
        gen_ai_metrics.GEN_AI_CLIENT_OPERATION_DURATION,
        gen_ai_metrics.GEN_AI_CLIENT_TOKEN_USAGE,
        mcp_metrics.MCP_CLIENT_OPERATION_DURATION,
        mcp_metrics.MCP_SERVER_OPERATION_DURATION,
    }
    assert {name for name in INSTRUMENTS if not name.startswith("portico.")} == conventions


def test_the_documentation_has_the_table_and_nothing_else() -> None:
    page = (REPOSITORY / "docs" / "telemetry.md").read_text()
    rows = re.findall(r"^\| `((?:portico|http|mcp|gen_ai)_\w+)` \| (\w+) \| ([^|]*) \|", page, re.MULTILINE)
    documented = {(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    suffixes, kinds = {Kind.COUNTER: "_total", Kind.INFO: "_info"}, {Kind.LEVEL: "gauge"}

    assert documented == {
        (one.family + suffixes.get(one.kind, ""), kinds.get(one.kind, one.kind.value), one.family_labels) for one in TABLE
    }


def test_every_metric_has_help_a_type_and_a_name_by_the_conventions(shown: Shown) -> None:
    for family in families_of(shown.modern):
        assert family.documentation, family.name
        assert family.type in ("counter", "gauge", "histogram", "info"), family.name
        assert re.fullmatch(r"(portico|process|http_server|mcp|gen_ai)_[a-z_]+", family.name)
        assert not family.name.endswith(("_total", "_count", "_sum", "_bucket", "_info", "_milliseconds", "_ms"))


# --- both faces -------------------------------------------------------------------------------------------------------


def series_of(metric: Measured) -> dict[frozenset[tuple[str, str]], Any]:
    """The points of one metric over OTLP, by their labels as Prometheus has them."""
    kind = metric.proto.WhichOneof("data")
    found: dict[frozenset[tuple[str, str]], Any] = {}
    for point in getattr(metric.proto, kind).data_points:
        labels = frozenset((prometheus(name), str(value)) for name, value in values(point.attributes).items())
        if kind == "histogram":
            found[labels] = (point.count, round(point.sum, 6), tuple(point.bucket_counts))
        else:
            found[labels] = getattr(point, point.WhichOneof("value"))
    return found


def series_in(text: str) -> dict[str, dict[frozenset[tuple[str, str]], Any]]:
    """The series of each family in an OpenMetrics text, in the same form."""
    found: dict[str, dict[frozenset[tuple[str, str]], Any]] = {}
    for family in families_of(text):
        series = found.setdefault(family.name, {})
        counts: dict[frozenset[tuple[str, str]], list[float]] = {}
        sums: dict[frozenset[tuple[str, str]], float] = {}
        for sample in family.samples:
            labels = frozenset((name, value) for name, value in sample.labels.items() if value and name != "le")
            if sample.name.endswith("_bucket"):
                counts.setdefault(labels, [0.0]).append(sample.value)
            elif family.type == "histogram" and sample.name.endswith("_sum"):
                sums[labels] = sample.value
            elif family.type != "histogram":
                series[labels] = sample.value
        for labels, cumulative in counts.items():
            alone = tuple(int(after - before) for before, after in pairwise(cumulative))
            series[labels] = (int(cumulative[-1]), round(sums[labels], 6), alone)
    return found


def test_both_faces_show_the_same_numbers_of_everything(shown: Shown) -> None:
    sent, text = {metric.name: metric for metric in shown.sent}, series_in(shown.modern)

    assert set(sent) == set(INSTRUMENTS) - {"portico.telemetry.spans.lost"}
    for name, metric in sent.items():
        instrument = INSTRUMENTS[name]
        assert metric.unit == instrument.unit
        assert series_of(metric) == text[instrument.family], name
    assert {metric.resource["service.name"] for metric in shown.sent} == {"portico"}
    assert {family.name for family in parsed(shown.plain)} >= {"portico_call_duration_seconds", "portico_agent_up"}


def test_what_a_gateway_did_is_what_it_shows(shown: Shown) -> None:
    found = series_in(shown.modern)

    def of(family: str, **labels: str) -> Any:
        return found[family][frozenset(labels.items())]

    worker = {"agent": "worker"}
    assert of("portico_agent_crashes", **worker) == of("portico_agent_restarts", **worker) == 3
    assert of("portico_dead_letters", **worker) == 1
    assert of("portico_runs_ended", status="succeeded") == 2
    assert of("portico_handling_duration_seconds", **worker, operation="block")[0] == 1
    assert of("portico_handling_duration_seconds", **worker, operation="block")[1] >= 0.3
    assert of("portico_event_loop_stalls", **worker) >= 1
    assert of("portico_model_cost_usd", **worker, gen_ai_request_model="known") == 0.25
    assert of("portico_model_calls_unpriced", **worker, gen_ai_request_model="unknown") == 1
    assert of("portico_sink_failures", sink="usage") >= 2
    assert of("portico_journal_wait_duration_seconds")[0] >= 6
    assert of("portico_calls_admitted", **worker, operation="work", kind="send") == 1
    assert of("portico_calls_admitted", **worker, operation="work", kind="run") == 1
    assert of("mcp_client_operation_duration_seconds", mcp_method_name="tools/call", server="tests")[0] == 1
    tool = {"mcp_method_name": "tools/call", "gen_ai_tool_name": "worker-crash", "error_type": "tool_error"}
    assert of("mcp_server_operation_duration_seconds", **tool)[0] == 1
    request = {"http_request_method": "POST", "url_scheme": "http", "http_route": "/agents/worker/crash"}
    assert of("http_server_request_duration_seconds", **request, http_response_status_code="502", error_type="502")[0] == 1
    nowhere = {"http_request_method": "GET", "url_scheme": "http", "http_response_status_code": "404"}
    assert of("http_server_request_duration_seconds", **nowhere)[0] == 1


async def test_a_gateway_in_its_hosts_runtime_measures_too_and_two_measure_for_themselves() -> None:
    settings = GatewayConfig(port=0)
    one, other = HTTPGateway("one", settings), HTTPGateway("other", settings)
    tree = Supervisor("root", children=[Echo("echo"), one, other])
    with anyio.fail_after(20):
        async with Runtime(tree), httpx.AsyncClient(timeout=10, trust_env=False) as client:
            (await client.post(f"http://127.0.0.1:{one.port}/agents/echo", json=ASK)).raise_for_status()
            texts = [(await client.get(f"http://127.0.0.1:{gateway.port}/metrics")).text for gateway in (one, other)]
    counts = [
        [
            re.search(rf"^{name}.* (.+)$", text, re.MULTILINE)
            for name in ("portico_calls_admitted_total", "portico_event_loop_lag_seconds")
        ]
        for text in texts
    ]

    assert [float(found[0][1]) for found in counts if found[0] is not None] == [1.0, 0.0]
    assert all(found[1] is not None for found in counts)
    for text in texts:  # what the runtime itself does, both see
        assert 'portico_handling_duration_seconds_count{agent="echo",operation="echo"} 1.0' in text


async def test_the_handshake_of_a_websocket_is_a_request_whether_it_is_taken_or_refused() -> None:
    async with served(Echo("echo")) as gateway:
        address = f"ws://127.0.0.1:{gateway.port}/agents"
        async with connect(f"{address}/echo/ws"):
            taken = (await gateway.client.get("/metrics")).text
        with pytest.raises(InvalidStatus):
            await connect(f"{address}/nobody/ws").__aenter__()
        refused = (await gateway.client.get("/metrics")).text

    route = 'http_server_request_duration_seconds_count{error_type="",http_request_method="GET",http_response_status_code="%d"'
    assert route % 101 in taken
    assert route % 404 not in taken
    assert route % 404 in refused


# --- exemplars --------------------------------------------------------------------------------------------------------


async def test_a_sampled_call_leaves_an_example_with_its_trace_and_any_other_none() -> None:
    async with served(Echo("echo")) as gateway:
        await gateway.client.post("/agents/echo", json=ASK, headers={"traceparent": TRACEPARENT})
        await gateway.client.post("/agents/echo", json=ASK, headers={"traceparent": TRACEPARENT[:-1] + "0"})
        shown = families_of((await gateway.client.get("/metrics", headers=OPENMETRICS)).text)
        plain = (await gateway.client.get("/metrics")).text

    samples = [sample for family in shown for sample in family.samples if sample.exemplar is not None]
    assert [sample.name for sample in samples] == ["portico_call_duration_seconds_bucket"]
    (sample,) = samples
    assert sample.exemplar is not None
    assert sample.exemplar.labels == {"trace_id": TRACE, "span_id": SPAN}
    assert sample.exemplar.value <= float(sample.labels["le"])
    assert TRACE not in plain


@pytest.mark.parametrize("said", ["", "nonsense1", "a" * 30_000 + "1"], ids=["empty", "nonsense", "long"])
async def test_a_malformed_traceparent_harms_neither_agent_nor_figures(said: str) -> None:
    async with served(Echo("echo")) as gateway:
        for path in ("/agents/echo", "/agents/echo/cast"):
            assert (await gateway.client.post(path, json=ASK, headers={"traceparent": said})).is_success
        shown = await gateway.client.get("/metrics", headers=OPENMETRICS)
        restarts = next(one.restarts for one in gateway.runtime.registry.mailboxes.values() if one.name == "echo")

    assert families_of(shown.text)
    assert "# {" not in shown.text
    assert restarts == 0


async def test_examples_lead_to_spans_that_were_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        async with served(Echo("echo")) as gateway:
            await gateway.client.post("/agents/echo", json=ASK)
            text = (await gateway.client.get("/metrics", headers=OPENMETRICS)).text
    spans = {(span.trace, span.id): span.name for span in receiver.spans}
    examples: dict[str, str] = {}
    for family in families_of(text):
        for sample in family.samples:
            if sample.exemplar is not None:
                labels = sample.exemplar.labels
                examples[family.name] = spans[labels["trace_id"], labels["span_id"]]
    pushed = [
        exemplar
        for metric in receiver.metrics
        if metric.name == "portico.call.duration"
        for point in metric.proto.histogram.data_points
        for exemplar in point.exemplars
    ]

    assert examples["portico_call_duration_seconds"] == "dispatch echo.echo"
    assert examples["http_server_request_duration_seconds"] == "POST /agents/echo"
    assert {(exemplar.trace_id.hex(), exemplar.span_id.hex()) for exemplar in pushed} <= set(spans)
    assert pushed


# --- few series, whatever comes ---------------------------------------------------------------------------------------

MANY = 10_000


def test_ten_thousand_routes_agents_models_tools_and_slugs_make_few_series() -> None:
    requests, models, tools, calls = Requests(), ModelMeter(lambda agent: agent), MCPMeter(), CallMeter()
    tally = Tally([f"slug-{number}" for number in range(MANY)])
    for number in range(MANY):
        requests.ended((f"M{number}", f"/agents/{number}", 100 + number % 500, "http"), 0.1)
        models_call(models, f"agent-{number}", f"model-{number}")
        tools.answered(f"method/{number}", "", "", 0.1, None)
        tally.end("ask", AgentError(f"slug-{number}", "?"), 0.1)
        tally.reject(AgentError(f"slug-{number}", "?"))
        calls.failed(f"sink-{number}")

    assert len(requests.durations) <= 2 * MOST_ROUTES + 1
    assert sum(one.count for one in requests.durations.values()) == MANY
    assert len({model for _, _, _, model, _ in models.durations}) <= MOST_MODELS + 1
    assert len(models.durations) <= 2 * MOST + 1
    assert len(models.tokens) <= 2 * MOST + 1
    assert sum(one.usd for one in models.spent.values()) == MANY
    assert len(tools.durations) <= 2 * 1000 + 1
    assert len(tally.durations) <= MOST_OUTCOMES + 1
    assert len(tally.rejected) <= MOST_OUTCOMES + 1
    assert len(calls.failures) <= 21
    assert sum(calls.failures.values()) == sum(tally.rejected.values()) == MANY


def models_call(meter: ModelMeter, agent: str, model: str) -> None:
    call = ModelCall(agent, ModelIdentity("p", model, "p"), [], None, streamed=False, delivery=None)
    with meter.calling_model(call):
        call.response = ModelResponse("", model, tokens_in=1, tokens_out=1, cost_usd=1.0)


def test_no_name_that_a_stranger_makes_up_is_a_long_label() -> None:
    models, tools = ModelMeter(lambda agent: agent), MCPMeter()
    models_call(models, "agent", "m" * MANY)
    tools.answered("notifications/" + "n" * MANY, "", "", 0.1, None)
    tools.answered("made/up", "", "-32601", 0.1, None)

    labels = [label for series in (*models.durations, *models.spent, *tools.durations) for label in series]
    assert max(map(len, labels)) <= 128
    assert (OTHER, "", "-32601") in tools.durations


async def test_more_agents_than_there_are_series_for_are_counted_together() -> None:
    agents = [Quiet(f"agent-{number}") for number in range(1_100)]
    async with Runtime(Supervisor("root", children=list(agents))) as runtime:
        dispatcher = Dispatcher(runtime)
        metrics = Metrics(dispatcher, streams=lambda: 0, sockets=lambda: 0)
        for number in (0, 1_099):
            await dispatcher.ask(Call(dispatcher.catalogue.find(f"agent-{number}", "nothing"), None))
        readings = {reading.instrument.name: reading.points for reading in metrics.read()}

    assert len(readings["portico.agent.up"]) == 1_001
    assert readings["portico.agent.up"][OTHER,] == 1
    assert readings["portico.agent.processes"][OTHER,] == 100
    assert len(readings["portico.calls.in_flight"]) == MOST_OPERATIONS + 1
    assert readings["portico.calls.admitted"]["agent-0", "nothing", "ask"] == 1
    assert readings["portico.calls.admitted"][OTHER, OTHER, "ask"] == 1


class Quiet(AgentProcess):
    @operation
    async def nothing(self) -> str:
        return ""

    @operation
    async def something(self) -> str:
        return "something"


async def test_what_waits_for_a_keyed_agent_is_held_against_the_room_of_all_its_keys() -> None:
    async with served(keyed(Echo, "echo", per_key="text", config={"mailbox_size": 10})) as gateway:
        empty = (await gateway.client.get("/metrics")).text
        for text in ("a", "b", "c"):
            await gateway.client.post("/agents/echo", json={"text": text})
        three = (await gateway.client.get("/metrics")).text

    limits = [re.findall(r'portico_mailbox_limit_messages{agent="echo"} ([\d.]+)', shown) for shown in (empty, three)]
    assert limits == [["10.0"], ["30.0"]]


async def test_an_agent_that_is_spawned_later_has_series() -> None:
    crew = DynamicSupervisor("crew")
    async with served(crew, Echo("echo")) as gateway:
        metrics = gateway.gateway.metrics
        assert metrics is not None
        changed = asyncio.Event()
        gateway.gateway.dispatcher.roster.on_change.append(changed.set)
        await crew.spawn(Quiet, "late")
        with anyio.fail_after(5):
            await changed.wait()
        (await gateway.client.post("/agents/late/nothing")).raise_for_status()
        text = (await gateway.client.get("/metrics")).text

    assert 'portico_calls_admitted_total{agent="late",kind="ask",operation="nothing"} 1.0' in text
    assert 'portico_agent_up{agent="late"} 1.0' in text


def test_who_is_gone_gives_its_series_up_when_others_need_them() -> None:
    meter = CallMeter()
    for generation in range(3):
        agents = [Quiet(f"agent-{generation}-{number}") for number in range(900)]
        meter.serve([endpoint for agent in agents for endpoint in endpoints_of(agent)])
        for agent in agents:
            meter.of(agent.name, "nothing").plain += 1
            meter.handled(Mailbox(agent.name, 1), "nothing", 0.1)

    assert len(meter.tallies) <= MOST_OPERATIONS
    assert meter.tallies["agent-2-899", "nothing"].plain == 1
    assert meter.other.plain == 0
    assert len(meter.handlings) <= MOST_OPERATIONS + 900


def test_what_overflows_is_still_counted() -> None:
    table = Bounded(lambda: Histogram((1.0,)), 2, lambda labels: (labels[0], OTHER))
    for number in range(10):
        table["a", str(number)].add(0.5)

    assert set(table) == {("a", "0"), ("a", "1"), ("a", OTHER)}
    assert table["a", OTHER].count == 8


def test_an_agent_called_other_is_shown_with_the_others() -> None:
    reading, level = Reading(INSTRUMENTS["portico.agent.restarts"]), Reading(INSTRUMENTS["portico.agent.up"])
    for value in (1, 2):
        reading.add(value, OTHER)
        level.add(value - 1, OTHER)

    assert (reading.points, level.points) == ({(OTHER,): 3}, {(OTHER,): 0})


def test_whatever_an_operation_raises_has_a_slug() -> None:
    tally = Tally(["known"])
    slugs = [
        tally.slug_of(error) for error in (AgentError("known", ""), AgentError("made-up", ""), ValueError(), PorticoError("?"))
    ]

    assert slugs == ["known", "agent-error", PorticoError.slug, PorticoError.slug]


# --- sending ----------------------------------------------------------------------------------------------------------


async def test_counters_are_sent_as_what_is_new_where_that_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
    monkeypatch.setenv(INTERVAL, "3600000")
    with receiving() as receiver:
        monkeypatch.setenv(ENDPOINT, f"{receiver.endpoint}/v1/metrics")
        async with served(Echo("echo")) as gateway:
            gateway_ = gateway.gateway
            assert gateway_.push is not None
            assert gateway_.metrics is not None
            for times in (1, 2):
                for _ in range(times):
                    await gateway.client.post("/agents/echo", json=ASK)
                await asyncio.to_thread(gateway_.push.send, gateway_.metrics.read())

    counts = [
        [point.as_int for point in one.proto.sum.data_points if values(point.attributes)["kind"] == "ask"]
        for one in receiver.metrics
        if one.name == "portico.calls.admitted"
    ]
    durations = [one.proto.histogram for one in receiver.metrics if one.name == "portico.call.duration"]
    levels = [one.proto.sum for one in receiver.metrics if one.name == "portico.calls.in_flight"]
    assert counts == [[1], [2], [0]]
    assert [one.data_points[0].count for one in durations] == [1, 2, 0]
    assert {one.aggregation_temporality for one in durations} == {1}
    assert {one.aggregation_temporality for one in levels} == {2}


@pytest.mark.parametrize("kind", KINDS)
async def test_an_endpoint_in_trouble_harms_no_call_and_is_complained_about_once(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(INTERVAL, "100")
    with trouble(kind) as endpoint, caplog.at_level(logging.WARNING):
        monkeypatch.setenv(ENDPOINT, f"{endpoint}/v1/metrics")
        async with served(Echo("echo")) as gateway:
            for _ in range(30):
                began = time.monotonic()
                assert (await gateway.client.post("/agents/echo", json=ASK)).status_code == 200
                assert time.monotonic() - began < 5  # an endpoint may hold its exporter for ten
            ended = time.monotonic()
        assert time.monotonic() - ended < 7
        metrics = gateway.gateway.metrics
        assert metrics is not None

    complaints = [record for record in caplog.records if record.name.startswith(("opentelemetry", "portico.telemetry"))]
    assert len(complaints) <= 1, [record.getMessage() for record in complaints]
    if kind in ("nonsense", "slow"):
        assert metrics.exports["metrics", "ok"] >= 1
    else:
        assert metrics.exports["metrics", "ok"] == 0


async def test_what_could_not_be_sent_is_in_what_is_sent_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
    monkeypatch.setenv(INTERVAL, "3600000")
    with receiving() as receiver:
        monkeypatch.setenv(ENDPOINT, f"{receiver.endpoint}/v1/metrics")
        async with served(Echo("echo")) as gateway:
            push, metrics = gateway.gateway.push, gateway.gateway.metrics
            assert push is not None
            assert metrics is not None
            exporter = push.ways[0].exporter
            await gateway.client.post("/agents/echo", json=ASK)
            with monkeypatch.context() as patched:
                patched.setattr(exporter, "export", broken)
                await asyncio.to_thread(push.send, metrics.read())
            failed = metrics.exports["metrics", "failed"]
            await gateway.client.post("/agents/echo", json=ASK)
            await asyncio.to_thread(push.send, metrics.read())

    durations = [one.proto.histogram for one in receiver.metrics if one.name == "portico.call.duration"]
    assert failed == 1
    assert [one.data_points[0].count for one in durations] == [2, 0]


def broken(*_: Any, **__: Any) -> None:
    raise OSError("the wire was cut")


async def test_figures_come_every_interval_without_anybody_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INTERVAL, "50")
    with receiving() as receiver:
        monkeypatch.setenv(ENDPOINT, f"{receiver.endpoint}/v1/metrics")
        async with served(Echo("echo")) as gateway:
            await asyncio.to_thread(receiver.wait_for, thrice)
            text = (await gateway.client.get("/metrics")).text

    sent = re.search(r'portico_telemetry_exports_total{outcome="ok",signal="metrics"} (\d+)', text)
    assert sent is not None
    assert int(sent[1]) >= 2


def thrice(receiver: Receiver) -> bool:
    return len([one for one in receiver.metrics if one.name == "portico.build.info"]) >= 3


async def test_figures_go_over_grpc_where_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc")
    with receiving_grpc() as receiver:
        monkeypatch.setenv(ENDPOINT, receiver.endpoint)
        async with served(Echo("echo")) as gateway:
            await gateway.client.post("/agents/echo", json=ASK)

    (calls,) = [one.proto.sum for one in receiver.metrics if one.name == "portico.calls.admitted"]
    assert {values(point.attributes)["kind"]: point.as_int for point in calls.data_points} == {"ask": 1, "run": 0, "send": 0}


async def test_two_gateways_of_one_process_send_each_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as one, receiving() as other:
        monkeypatch.setenv(ENDPOINT, f"{one.endpoint}/v1/metrics")
        async with served(Echo("here")) as first:
            monkeypatch.setenv(ENDPOINT, f"{other.endpoint}/v1/metrics")
            async with served(Crashing("there")) as second:
                await first.client.post("/agents/here", json=ASK)
                await second.client.post("/agents/there/once")

    for receiver, name in ((one, "here"), (other, "there")):
        agents = {
            value["agent"]
            for metric in receiver.metrics
            if metric.name == "portico.agent.restarts"
            for value in (values(point.attributes) for point in metric.proto.sum.data_points)
        }
        assert agents == {name}


async def test_nothing_is_sent_where_no_endpoint_is_named_or_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(Echo("echo")) as gateway:
        assert gateway.gateway.push is None
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:1/v1/metrics")
    async with served(Echo("echo"), metrics_enabled=False) as gateway:
        assert gateway.gateway.push is None
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    async with served(Echo("echo")) as gateway:
        assert gateway.gateway.push is None


@pytest.mark.parametrize("said", ["soon", "0", "-1", "1.5"])
def test_an_interval_that_is_none_is_refused_with_a_sentence(said: str) -> None:
    with pytest.raises(ConfigurationError, match="OTEL_METRIC_EXPORT_INTERVAL"):
        interval_of({INTERVAL: said})


def test_a_temporality_is_one_of_three() -> None:
    name = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"

    assert list(deltas_of({name: "LowMemory"})) == [Kind.HISTOGRAM]
    with pytest.raises(ConfigurationError, match="Known: cumulative, delta, lowmemory"):
        deltas_of({name: "sometimes"})


def test_a_series_that_begins_anew_is_said_to_begin_anew() -> None:
    from opentelemetry.sdk.resources import Resource

    from portico.telemetry.otlp_metrics import OTLPMetrics

    def point(value: int) -> Reading:
        reading = Reading(INSTRUMENTS["portico.agent.restarts"])
        reading.add(value, "worker")
        return reading

    made = OTLPMetrics(Resource.get_empty(), (), started=100)
    starts: list[int] = []
    for now, value in ((200, 5), (300, 7), (400, 1), (500, 2)):
        reading = [point(value)]
        starts += [one.start_time_unix_nano for one in points_of(made.data(reading, now))]
        made.was_sent(reading, now)

    assert starts == [100, 100, 300, 300]


def points_of(data: Any) -> list[Any]:
    return list(data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points)


def test_readings_do_not_change_when_more_is_counted() -> None:
    histogram = Histogram((1.0, 2.0))
    histogram.add(0.5, TRACEPARENT)
    reading = Reading(replace(INSTRUMENTS["portico.call.duration"], labels=()))
    reading.add(histogram)
    histogram.add(3.0)
    value = reading.points[()]

    assert isinstance(value, Buckets)
    assert value.counts == (1, 0, 0)
