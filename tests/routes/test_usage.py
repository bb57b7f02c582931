"""What models took, through real HTTP: counted by a fake API's own word, and read at `GET /usage` and at the runs."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.agents.model_agent import ModelAgent
from portico.app.factory import create_app
from portico.app.settings import GatewayConfig
from portico.auth.api_key import new_key
from portico.auth.key_file import KeyFile
from portico.auth.principal import Principal
from portico.errors import StoreUnavailable
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context, ModelCall, ModelIdentity, ModelResponse
from portico.kernel.supervisor import Supervisor
from portico.llm.scripted import ScriptedModel
from portico.operations.decorators import operation
from portico.runs.memory_store import MemoryRunStore
from portico.runs.sinks import Envelope, RingBuffer
from portico.runs.usage import UsageQuery
from portico.topology.runtime import Runtime
from tests.app.serving import ANY_PORT, listening
from tests.llm.fake_openai import delta, fake_openai, plain, streamed
from tests.routes.models import Asker, answered, helper, prices

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from pathlib import Path

    from portico.runs.usage import UsageRow
    from tests.app.serving import Served

pytestmark = pytest.mark.anyio

KEY = {"message": "?"}
ONE = {"tokens_in": 100, "tokens_out": 10, "cost_usd": 0.0002}
"""What `answered()` takes, by the prices of the tests."""


@asynccontextmanager
async def serving(*agents: AgentProcess, data: Path | None = None, **settings: Any) -> AsyncGenerator[Served]:
    tree = Supervisor("root", children=list(agents), max_restarts=3, backoff_base=0.001)
    runtime = Runtime(tree, data=data, prices=prices())
    config = GatewayConfig(port=0, **settings) if settings else ANY_PORT
    with anyio.fail_after(30):
        async with listening(create_app(runtime, config), config) as gateway:
            yield gateway


async def usage(gateway: Served, query: str = "", **headers: str) -> dict[str, Any]:
    response = await gateway.client.get(f"/usage{query}", headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


def part(sums: dict[str, Any], *names: str) -> list[Any]:
    return [sums[name] for name in names]


async def test_what_a_plain_ask_took_is_in_its_reply_in_its_run_and_in_the_sums() -> None:
    async with fake_openai() as fake, serving(helper(fake)) as gateway:
        fake.answers += [
            answered(prompt_tokens_details={"cached_tokens": 40}, completion_tokens_details={"reasoning_tokens": 4}),
            answered(),
        ]
        reply = (await gateway.client.post("/agents/helper", json=KEY)).json()
        await gateway.client.post("/agents/helper", json=KEY)
        report = await usage(gateway, "?by=day,agent,principal,provider,model")
        runs = (await gateway.client.get("/runs")).json()["runs"]
        by_run = await usage(gateway, "?by=run")
    assert reply["usage"] == ONE
    (row,) = report["rows"]
    assert part(row, "agent", "principal", "provider", "model") == ["helper", None, "fake", "priced"]
    assert part(row, "calls", "tokens_in", "tokens_out", "cost_usd") == [2, 200, 20, 0.0004]
    assert part(row, "tokens_cached", "tokens_reasoning", "unpriced_calls", "unknown_calls") == [40, 4, 0, 0]
    assert report["total"] == {name: value for name, value in row.items() if name in report["total"]}
    assert 0 < report["total"]["seconds"] < 20
    assert [part(run["usage"], "calls", "cost_usd", "models") for run in runs] == [[1, 0.0002, ["priced"]]] * 2
    assert {row["run"] for row in by_run["rows"]} == {run["run_id"] for run in runs}


@pytest.fixture
def where_it_is_tomorrow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A time zone whose date is never that of UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "XYZ-24")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("where_it_is_tomorrow")
async def test_usage_by_day_names_the_day_in_utc_wherever_the_gateway_runs(tmp_path: Path) -> None:
    days = {datetime.now(UTC).date().isoformat()}
    async with fake_openai() as fake, serving(helper(fake), data=tmp_path) as gateway:
        fake.answers += [answered(), answered()]
        for _ in range(2):
            assert (await gateway.client.post("/agents/helper", json=KEY)).status_code == 200
        while (report := await usage(gateway, "?by=day"))["total"]["calls"] < 2:  # a plain ask waits for no disk
            pass
        days.add(datetime.now(UTC).date().isoformat())  # midnight may have passed
        later = await usage(gateway, f"?by=day&since={date.fromisoformat(max(days)) + timedelta(days=1)}")
        since = await usage(gateway, f"?by=day&since={min(days)}&until={max(days)}")
    assert {row["day"] for row in report["rows"]} <= days
    assert sum(row["calls"] for row in report["rows"]) == 2
    assert since["rows"] == report["rows"]
    assert later["rows"] == []


async def test_nested_agents_streams_and_turns_are_paid_by_the_run_they_were_made_for() -> None:
    pieces = [
        delta("Hi."),
        delta(finish_reason="stop", usage={"prompt_tokens": 100, "completion_tokens": 10}) | {"model": "priced"},
    ]
    last: dict[str, Any] = {"model": "priced", "choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 10}}
    async with (
        fake_openai() as fake,
        serving(Asker("asker", "inner", 2), Asker("inner", "helper"), helper(fake, stream=True)) as gateway,
    ):
        fake.answers += [streamed(*pieces, last), answered()]
        started = (await gateway.client.post("/runs", json={"agent": "asker", "payload": {}})).json()
        run = (await gateway.client.get(f"/runs/{started['run_id']}?wait=20&summary=true")).json()
        report = await usage(gateway, f"?by=agent&run={started['run_id']}")
    assert run["status"] == "succeeded"
    assert part(run["usage"], "calls", "tokens_in", "tokens_out", "cost_usd") == [2, 200, 20, 0.0004]
    assert [part(row, "agent", "calls") for row in report["rows"]] == [["helper", 2]]
    assert run["summary"]["turns"] == 2


async def test_what_has_no_price_or_no_count_is_flagged_and_never_zero() -> None:
    async with fake_openai() as fake, serving(helper(fake), helper(fake, "other", model="odd")) as gateway:
        fake.answers += [answered(model="odd"), answered(read=None), answered()]
        asked = ("other", "helper", "helper")
        replies = [(await gateway.client.post(f"/agents/{one}", json=KEY)).json()["usage"] for one in asked]
        report = await usage(gateway, "?by=model")
    rows = {row["model"]: row for row in report["rows"]}
    assert [reply["cost_usd"] for reply in replies] == [None, None, 0.0002]
    assert part(rows["odd"], "calls", "cost_usd", "unpriced_calls", "tokens_in") == [1, None, 1, 100]
    assert part(rows["priced"], "calls", "cost_usd", "unpriced_calls", "unknown_calls", "tokens_in") == [2, 0.0002, 1, 1, 100]
    assert part(report["total"], "calls", "cost_usd", "unpriced_calls") == [3, 0.0002, 2]


async def test_the_price_that_a_provider_tells_wins() -> None:
    async with fake_openai() as fake, serving(helper(fake)) as gateway:
        fake.answers += [answered(cost=0.5), answered(cost=0)]
        for _ in range(2):
            await gateway.client.post("/agents/helper", json=KEY)
        report = await usage(gateway)
    assert part(report["total"], "cost_usd", "unpriced_calls") == [0.5, 0]


async def test_calls_that_fail_are_counted_by_what_they_may_have_taken() -> None:
    last: dict[str, Any] = {"model": "priced", "choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 3}}
    async with fake_openai() as fake, serving(helper(fake), helper(fake, "streaming", stream=True)) as gateway:
        fake.answers += [
            plain({"error": "Too many."}, 429),
            plain({"error": "Broken."}, 500),
            streamed(delta("Hi"), last, done=False, cut=True),
        ]
        statuses = [
            (await gateway.client.post(f"/agents/{one}", json=KEY)).status_code for one in ("helper", "helper", "streaming")
        ]
        report = await usage(gateway, "?by=agent")
    rows = {row["agent"]: row for row in report["rows"]}
    assert all(status >= 400 for status in statuses), statuses
    assert part(rows["helper"], "calls", "failed_calls", "unknown_calls", "unpriced_calls") == [2, 2, 1, 1]
    assert part(rows["streaming"], "calls", "failed_calls", "unknown_calls", "unpriced_calls", "tokens_in") == [1, 1, 0, 1, 100]


async def test_a_caller_sees_its_own_and_an_admin_sees_all(tmp_path: Path) -> None:
    keys, file = dict[str, dict[str, str]](), KeyFile(tmp_path / "keys.json")
    for name, scopes in (("alice", ()), ("bob", ()), ("boss", ("admin",))):
        key, record = new_key(Principal(name, frozenset(scopes)))
        keys[name] = {"Authorization": f"Bearer {key}"}
        with file.editing() as kept:
            kept.append(record)
    async with fake_openai() as fake, serving(helper(fake), keys_file=str(file.path)) as gateway:
        fake.answers += [answered(), answered(), answered()]
        for name in ("alice", "alice", "bob"):
            await gateway.client.post("/agents/helper", json=KEY, headers=keys[name])
        mine = await usage(gateway, "?by=principal", **keys["alice"])
        nosy = await gateway.client.get("/usage?principal=bob", headers=keys["alice"])
        every = await usage(gateway, "?by=principal", **keys["boss"])
        of_bob = await usage(gateway, "?principal=bob", **keys["boss"])
        nobody = await gateway.client.get("/usage")
    assert [part(row, "principal", "calls") for row in mine["rows"]] == [["alice", 2]]
    assert mine["total"]["calls"] == 2
    assert (nosy.status_code, nobody.status_code) == (403, 401)
    assert [part(row, "principal", "calls") for row in every["rows"]] == [["alice", 2], ["bob", 1]]
    assert of_bob["total"]["calls"] == 1


async def test_what_was_paid_is_counted_where_the_attempt_crashes() -> None:
    class Fragile(Asker):
        async def handle(self, message: Any) -> Any:
            await super().handle(message)
            if message.attempt == 0:
                raise RuntimeError("crashed on purpose")
            return {"attempt": message.attempt}

    async with fake_openai() as fake, serving(Fragile("fragile", "helper"), helper(fake)) as gateway:
        fake.answers += [answered(), answered()]
        started = (await gateway.client.post("/runs", json={"agent": "fragile", "payload": {}})).json()
        run = (await gateway.client.get(f"/runs/{started['run_id']}?wait=20&summary=true")).json()
        calls = fake.requests
    assert run["status"] == "succeeded"
    assert run["usage"]["calls"] == len(calls)  # an ask whose reply was stored is not made again
    assert part(run["summary"], "attempts", "recoveries") == [2, 1]


async def test_concurrent_callers_are_counted_one_by_one(tmp_path: Path) -> None:
    async with fake_openai() as fake, serving(helper(fake, concurrency=32), data=tmp_path) as gateway:
        fake.answers += [answered(read=number, written=1) for number in range(32)]
        async with asyncio.TaskGroup() as group:
            for _ in range(32):
                group.create_task(gateway.client.post("/agents/helper", json=KEY))
        report = await usage(gateway, "?by=run&limit=10")
    assert part(report["total"], "calls", "tokens_in", "tokens_out") == [32, sum(range(32)), 32]
    assert report["total"]["cost_usd"] == (sum(range(32)) + 32 * 10) / 1_000_000
    assert (len(report["rows"]), report["truncated"]) == (10, True)


async def test_usage_is_there_after_a_restart(tmp_path: Path) -> None:
    async with fake_openai() as fake:
        fake.answers += [answered(), answered()]
        async with serving(helper(fake), data=tmp_path) as gateway:
            started = (await gateway.client.post("/runs", json={"agent": "helper", "payload": KEY})).json()
            before = (await gateway.client.get(f"/runs/{started['run_id']}?wait=20")).json()
            await gateway.client.post("/agents/helper", json=KEY)
        async with serving(helper(fake), data=tmp_path) as gateway:
            after = (await gateway.client.get(f"/runs/{started['run_id']}")).json()
            report = await usage(gateway, "?by=agent")
    assert before["usage"]["calls"] == 1
    assert after["usage"] == before["usage"]
    assert after["summary"] == before["summary"]
    assert report["total"]["calls"] == 2


@pytest.mark.parametrize("query", ["?by=modle", "?since=yesterday", "?since=2026-13-01", "?limit=0", "?limit=10001"])
async def test_what_cannot_be_asked_for_is_refused(query: str) -> None:
    async with fake_openai() as fake, serving(helper(fake)) as gateway:
        response = await gateway.client.get(f"/usage{query}")
    assert response.status_code == 422
    assert response.json()["errors"][0]["path"].strip("/") == query[1:].partition("=")[0]


# --- the run's story, labels and sinks --------------------------------------------------------------------------------


class Labelled(AgentProcess):
    @operation
    async def look(self, ctx: Context) -> dict[str, Any]:
        ctx.metric("pages.read", 3, unit="{page}", of="atlas")
        with pytest.raises(ValueError, match="needs to be a number"):
            ctx.metric("pages.read", float("nan"))
        return dict(ctx.metadata)


async def test_the_story_of_a_run_tells_what_each_call_took() -> None:
    async with fake_openai() as fake, serving(helper(fake)) as gateway:
        fake.answers += [answered()]
        started = (await gateway.client.post("/runs", json={"agent": "helper", "payload": KEY})).json()
        path = f"/runs/{started['run_id']}"
        await gateway.client.get(f"{path}?wait=20")
        lines = await gateway.client.get(f"{path}/events", headers={"Accept": "application/jsonl"})
    (told,) = [line for line in lines.text.splitlines() if '"model.call"' in line]
    for words in ('"agent":"helper"', '"model":"priced"', '"tokens_in":100', '"cost_usd":0.0002', '"error":null'):
        assert words in told


async def test_labels_are_kept_with_a_run_and_told_with_its_events() -> None:
    ring = RingBuffer()
    async with serving(Labelled("agent"), sinks=(ring,)) as gateway:
        body = {"agent": "agent", "payload": {}, "labels": {"project": "atlas"}, "metadata": {"more": 1}}
        started = (await gateway.client.post("/runs", json=body)).json()
        run = (await gateway.client.get(f"/runs/{started['run_id']}?wait=20")).json()
        refused = await gateway.client.post("/runs", json={**body, "labels": {"project": "x" * 300}})
    assert run["labels"] == {"project": "atlas"}
    assert run["output"] == {"more": 1, "labels": {"project": "atlas"}}
    assert refused.status_code == 422
    told = [event for event in ring.events if event.run_id == started["run_id"]]
    assert [(event.seq, event.type) for event in told] == [(1, "run.started"), (2, "metric"), (3, "run.succeeded")]
    assert told[1].data == {"name": "pages.read", "value": 3, "unit": "{page}", "tags": {"of": "atlas"}}
    assert {event.labels["project"] for event in told} == {"atlas"}


async def test_sinks_get_the_events_of_plain_asks_too_and_what_models_took() -> None:
    ring = RingBuffer()
    async with fake_openai() as fake, serving(helper(fake), sinks=(ring,)) as gateway:
        fake.answers += [answered()]
        await gateway.client.post("/agents/helper", json=KEY)
    types = [event.type for event in ring.events]
    assert (types[0], types[-1]) == ("run.started", "run.succeeded")
    assert "model.call" in types
    assert [event.seq for event in ring.events] == list(range(1, len(types) + 1))
    (row,) = ring.used
    assert (row.agent, row.model, row.usage.tokens_in, row.usage.cost) == ("helper", "priced", 100, 200_000)


class Failing:
    """A sink that takes nothing."""

    def event(self, envelope: Envelope) -> None:
        raise OSError("the sink is broken")

    def usage(self, row: UsageRow) -> None:
        raise OSError("the sink is broken")


async def test_a_sink_that_fails_harms_no_call() -> None:
    async with fake_openai() as fake, serving(helper(fake), sinks=("tests.routes.test_usage.Failing",)) as gateway:
        fake.answers += [answered()]
        response = await gateway.client.post("/agents/helper", json=KEY)
        report = await usage(gateway)
    assert response.status_code == 200
    assert report["total"]["calls"] == 1


class Full(MemoryRunStore):
    """Takes nothing while it is full."""

    full = True

    def submit(self, changes: Any, ended: Callable[[Exception | None], object], lineage: Any = None) -> None:
        if self.full:
            raise StoreUnavailable("the disk is full")
        super().submit(changes, ended, lineage)


async def test_what_the_store_does_not_take_is_counted_as_a_failure_and_made_good_once() -> None:
    store = Full()
    async with fake_openai() as fake, serving(helper(fake)) as gateway:
        gateway.gateway.dispatcher.book.store = store
        fake.answers += [answered() for _ in range(4)]
        for _ in range(2):
            assert (await gateway.client.post("/agents/helper", json=KEY)).status_code == 200
        figures = (await gateway.client.get("/metrics")).text
        store.full = False
        for _ in range(2):
            assert (await gateway.client.post("/agents/helper", json=KEY)).status_code == 200
        (group,) = await store.usage(UsageQuery(everyone=True))
    assert 'portico_sink_failures_total{sink="usage"} 2' in figures
    assert (group.usage.calls, group.usage.tokens_in) == (4, 400)


class Boastful(ScriptedModel):
    """A provider of one's own that says odd things of what it took."""

    async def chat(self, model: str, messages: Any, tools: Any = None) -> ModelResponse:
        del messages, tools
        return ModelResponse("Hi.", model, 2**70, -1, cost_usd=1e30, tokens_cached=2**63, tokens_reasoning=-5)


async def test_odd_numbers_of_a_provider_count_as_unknown_and_leave_the_gateway_ready(tmp_path: Path) -> None:
    async with serving(ModelAgent("odd", model="m", provider=Boastful([])), data=tmp_path) as gateway:
        for _ in range(2):
            assert (await gateway.client.post("/agents/odd", json=KEY)).status_code == 200
        while (report := await usage(gateway))["total"]["calls"] < 2:  # a plain ask waits for no disk
            pass
        ready = await gateway.client.get("/readyz")
    assert part(report["total"], "calls", "tokens_in", "tokens_out", "tokens_cached", "cost_usd") == [2, None, None, None, None]
    assert part(report["total"], "unknown_calls", "unpriced_calls") == [2, 2]
    assert ready.status_code == 200


async def test_a_sum_that_no_store_can_keep_is_lost_and_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    store = Full()
    call = ModelCall("helper", ModelIdentity("fake", "priced", "fake"), (), None, streamed=False, delivery=None)
    async with fake_openai() as fake, serving(helper(fake)) as gateway:
        book = gateway.gateway.dispatcher.book
        book.store = store
        for seconds in (1, 1e13, 2):
            book.ledger.enter(call, seconds)
        store.full = False
        book.ledger.make_good()
        (group,) = await store.usage(UsageQuery(everyone=True))
    assert (group.usage.calls, group.usage.duration_us, book.ledger.lost) == (2, 3_000_000, 1)
    assert "some calls of models are not counted" in caplog.text
