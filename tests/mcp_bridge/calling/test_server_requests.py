"""What external servers ask back: people, through the run that calls; the agent's model, where that is allowed."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.agents.model_agent import ModelAgent
from portico.app.factory import create_app
from portico.errors import ContractViolation, MCPToolError, ModelError, NotWaiting
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import ModelResponse, ToolCall
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.llm.scripted import ScriptedModel
from portico.mcp_bridge.calling.wiring import build_upstreams
from portico.mcp_bridge.config import MCPServerConfig
from portico.operations.decorators import operation
from portico.runs.call import Call
from portico.runs.dispatcher import Dispatcher
from portico.runs.status import RunStatus
from portico.runs.usage import UsageQuery
from portico.topology.parts import build_store
from tests.app.serving import ANY_PORT, listening
from tests.mcp_bridge.helpers import RAW_SERVER, external_server, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from portico.mcp_bridge.calling.toolset import MCPToolSet
    from portico.runs.run import Run

pytestmark = pytest.mark.anyio

ERAS = pytest.mark.parametrize("era", [[], ["--new"]], ids=["2025", "2026"])


class Caller(AgentProcess):
    """Calls a tool of the test server."""

    @operation
    async def use(self, tool: str, arguments: dict[str, Any] | None = None, server: str = "raw") -> Any:
        return await self.tools.get(f"mcp://{server}/{tool}").execute(**(arguments or {}))

    @operation
    async def ask_other(self, tool: str) -> Any:
        return await self.ask("second", {"tool": tool}, message_type="use", timeout=30)


def raw(*args: str, **settings: Any) -> MCPServerConfig:
    return MCPServerConfig("raw", command="python", args=[str(RAW_SERVER), *args], **settings)


@asynccontextmanager
async def calling(
    *configs: MCPServerConfig, agents: tuple[AgentProcess, ...] = (), **options: Any
) -> AsyncGenerator[tuple[Dispatcher, MCPToolSet]]:
    supervisor, tools = build_upstreams(configs)
    own = [Caller("caller"), Caller("second")]
    with anyio.fail_after(50):
        root = Supervisor("root", children=[supervisor, *own, *agents])
        async with Runtime(root, tool_registry=tools, **options) as runtime:
            yield Dispatcher(runtime), tools


async def begin(dispatcher: Dispatcher, tool: str, arguments: dict[str, Any] | None = None, **options: Any) -> Run:
    server = options.pop("server", "raw")
    agent = options.pop("agent", "caller")
    payload = {"tool": tool, "arguments": arguments or {}, "server": server}
    return await dispatcher.start(Call(dispatcher.catalogue.find(agent, "use"), payload, **options))


async def waits(run: Run) -> dict[str, Any]:
    """Until the run waits for an answer; what for."""
    async for event in run.follow():
        if event.type == "run.waiting":
            return event.data
    raise AssertionError(f"it ended without a question: {run.error or run.output}")


async def said(run: Run) -> Any:
    """What the tool has returned at last."""
    await run.wait()
    if run.error is not None:
        raise run.error
    return json.loads(run.output)


# --- people -----------------------------------------------------------------------------------------------------------


@ERAS
async def test_question_of_a_server_is_a_wait_of_the_run_and_the_answer_goes_back(era: list[str]) -> None:
    async with calling(raw(*era)) as (dispatcher, _):
        run = await begin(dispatcher, "ask", {"message": "Which \u202ecolour?"})
        about = await waits(run)
        assert run.status is RunStatus.WAITING
        assert about["prompt"].startswith("The MCP server 'raw' asks (its tool 'mcp://raw/ask'; its words are not checked): Which")
        assert "\u202e" not in about["prompt"]
        assert about["schema"]["required"] == ["color"]
        with pytest.raises(ContractViolation, match="color"):
            await dispatcher.book.answer(run, {"colour": "red"})
        await dispatcher.book.answer(run, {"color": "red"})
        with pytest.raises(NotWaiting):
            await dispatcher.book.answer(run, {"color": "blue"})
        answer = await said(run)
        assert answer.get("result", answer) == {"action": "accept", "content": {"color": "red"}}
        assert run.backlog()[2].data == {"answered": True}
        assert [event.type for event in run.backlog()] == ["run.started", "run.waiting", "run.resumed", "run.succeeded"]


async def test_form_is_flat_so_that_an_answer_is_held_against_nothing_that_takes_for_ever() -> None:
    doubling = {f"a{level}": {"allOf": [{"$ref": f"#/$defs/a{level + 1}"}] * 2} for level in range(60)} | {"a60": {}}
    options = [{"const": "a", "title": "A"}, {"const": "b"}]
    some = {"type": "array", "items": {"anyOf": options}, "maxItems": 1}
    fields = {"name": {"type": "string", "pattern": "^(a+)+$", "maxLength": 99}, "one": {"oneOf": options}, "some": some}
    schema = {"type": "object", "properties": fields, "required": ["name"], "$ref": "#/$defs/a0", "$defs": doubling}
    async with calling(raw()) as (dispatcher, _):
        run = await begin(dispatcher, "ask", {"schema": schema})
        about = await waits(run)
        plain = {"name": {"type": "string", "maxLength": 99}, "one": {"oneOf": options}, "some": some}
        assert about["schema"] == {"type": "object", "properties": plain, "required": ["name"]}
        with pytest.raises(ContractViolation, match="some"):
            await dispatcher.book.answer(run, {"name": "a" * 60 + "!", "some": ["c"]})
        await dispatcher.book.answer(run, {"name": "a" * 60 + "!", "some": ["a"]})
        assert (await said(run))["action"] == "accept"
        wide = {"type": "object", "properties": {"one": {"enum": ["a"], "oneOf": [{"const": "a"}] * 2000}}}
        run = await begin(dispatcher, "ask", {"schema": wide})
        assert (await said(run)) == {"action": "decline"}


@ERAS
async def test_null_declines_and_no_answer_in_time_cancels(era: list[str]) -> None:
    async with calling(raw(*era, input_timeout=0.2)) as (dispatcher, _):
        run = await begin(dispatcher, "ask")
        answer = await said(run)
        assert answer.get("result", answer) == {"action": "cancel"}
    async with calling(raw(*era)) as (dispatcher, _):
        run = await begin(dispatcher, "ask")
        await waits(run)
        await dispatcher.book.answer(run, None)
        answer = await said(run)
        assert answer.get("result", answer) == {"action": "decline"}


@ERAS
async def test_wait_stops_the_clocks_of_the_call_and_of_the_run(era: list[str]) -> None:
    async with calling(raw(*era, timeout=1.0)) as (dispatcher, _):
        run = await begin(dispatcher, "ask", timeout=1.0)
        await waits(run)
        await asyncio.sleep(1.5)  # longer than both: that nothing happens cannot be waited for otherwise
        assert not run.done
        await dispatcher.book.answer(run, {"color": "red"})
        assert "accept" in json.dumps(await said(run))


@ERAS
async def test_address_that_a_server_wants_opened_is_shown_and_consented_to(era: list[str]) -> None:
    async with calling(raw(*era)) as (dispatcher, _):
        run = await begin(dispatcher, "ask_url")
        assert "https://pay.example/1" in (await waits(run))["prompt"]
        await dispatcher.book.answer(run, value=True)
        answer = await said(run)
        assert answer.get("result", answer) == {"action": "accept"}


@ERAS
async def test_cancelled_run_waits_no_more_and_the_agent_goes_on(era: list[str]) -> None:
    async with calling(raw(*era)) as (dispatcher, _):
        run = await begin(dispatcher, "ask")
        await waits(run)
        await dispatcher.book.cancel(run)
        await run.wait()
        assert run.status is RunStatus.CANCELLED
        assert await said_plainly(await begin(dispatcher, "tell")) == "done"


async def said_plainly(run: Run) -> Any:
    await run.wait()
    return run.output


async def test_stored_run_waits_in_place_and_what_it_says_is_stored(tmp_path: Path) -> None:
    async with calling(raw(), **build_store(tmp_path)) as (dispatcher, _):
        payload: dict[str, Any] = {"tool": "ask", "arguments": {}}
        run = await dispatcher.submit(Call(dispatcher.catalogue.find("caller", "use"), payload))
        await waits(run)
        assert run.status is RunStatus.WAITING
        await dispatcher.book.answer(run, {"color": "red"})
        assert (await said(run))["content"] == {"color": "red"}
        assert run.attempts == 1


async def test_question_reaches_the_run_also_where_another_agent_made_the_call() -> None:
    async with calling(raw()) as (dispatcher, _):
        endpoint = dispatcher.catalogue.find("caller", "ask_other")
        run = await dispatcher.start(Call(endpoint, {"tool": "ask"}))
        await waits(run)
        await dispatcher.book.answer(run, {"color": "red"})
        assert (await said(run))["action"] == "accept"


async def test_questions_of_two_calls_of_one_run_come_one_after_the_other() -> None:
    async with calling(raw("--new"), agents=(Both("both"),)) as (dispatcher, _):
        run = await dispatcher.start(Call(dispatcher.catalogue.find("both", "both")))
        for color in ("red", "blue"):
            while run.waiting is None:  # noqa: ASYNC110  # a turn of the loop after the other wait
                await asyncio.sleep(0)
            await dispatcher.book.answer(run, {"color": color})
        await run.wait()
        assert sorted(json.loads(text)["result"]["content"]["color"] for text in run.output) == ["blue", "red"]


class Both(AgentProcess):
    @operation
    async def both(self) -> list[str]:
        tool = self.tools.get("mcp://raw/ask")
        return list(await asyncio.gather(tool.execute(), tool.execute()))


# --- whose question it is ---------------------------------------------------------------------------------------------


async def test_over_one_stream_a_question_is_declined_while_two_calls_could_have_caused_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notes = tmp_path / "notes"
    async with calling(raw("--notes", str(notes))) as (dispatcher, _):
        other = await begin(dispatcher, "wait", agent="second")
        while not (notes.exists() and "called wait" in notes.read_text()):  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.005)
        assert (await said(await begin(dispatcher, "ask")))["action"] == "decline"
        assert "belongs to no call for certain" in caplog.text
        # The server may still be at what was cancelled, and ask because of that.
        await dispatcher.book.cancel(other)
        assert (await said(await begin(dispatcher, "ask")))["action"] == "decline"


async def test_over_http_each_question_reaches_the_run_whose_call_it_is() -> None:
    port = free_port()
    async with external_server("--http", str(port), "--old", port=port):
        url = f"http://127.0.0.1:{port}/mcp"
        config = MCPServerConfig("web", transport="streamable_http", url=url)
        async with calling(config) as (dispatcher, tools):
            assert tools.connections["web"].era == "2025-11-25"
            runs = [await begin(dispatcher, "elicit", {"about": name}, agent=name, server="web") for name in ("caller", "second")]
            for run, name in zip(runs, ("caller", "second"), strict=True):
                assert (await waits(run))["prompt"].count(f"about {name}")
            for run, color in zip(reversed(runs), ("blue", "red"), strict=True):
                await dispatcher.book.answer(run, {"color": color})
            assert [await said_plainly(run) for run in runs] == ["caller: accept red", "second: accept blue"]


@ERAS
async def test_call_outside_a_run_is_declined(era: list[str]) -> None:
    async with calling(raw(*era)) as (_, tools):
        answer = json.loads(await tools.get("mcp://raw/ask").execute())
        assert answer.get("result", answer) == {"action": "decline"}


async def test_server_that_asks_for_ever_is_ended() -> None:
    async with calling(raw("--new")) as (dispatcher, _):
        run = await begin(dispatcher, "ask_often")
        while not run.done:
            if run.waiting is not None:
                await dispatcher.book.answer(run, {"color": "red"})
            await asyncio.sleep(0.001)
        assert isinstance(run.error, MCPToolError)


# --- capabilities -----------------------------------------------------------------------------------------------------


@ERAS
async def test_only_what_is_served_is_declared(era: list[str], tmp_path: Path) -> None:
    async def declared(**settings: Any) -> set[str]:
        notes = tmp_path / "notes"
        notes.unlink(missing_ok=True)
        async with calling(raw("--notes", str(notes), *era, **settings)) as (_, tools):
            await tools.get("mcp://raw/tell").execute()
        lines = [line for line in notes.read_text().splitlines() if line.startswith("capabilities ")]
        return set(json.loads(lines[-1].removeprefix("capabilities ")))

    assert await declared() == {"elicitation"}
    assert await declared(elicitation=False) == set()
    assert await declared(sampling=True) == {"elicitation", "sampling"}


@ERAS
async def test_what_is_not_served_is_declined_cleanly_and_the_connection_stands(era: list[str]) -> None:
    async with calling(raw(*era, elicitation=False)) as (dispatcher, tools):
        for tool in ("ask", "sample", "roots"):
            run = await begin(dispatcher, tool)
            await run.wait()
            refusal = run.output if run.error is None else str(run.error)
            assert "not supported" in refusal
        assert await tools.get("mcp://raw/tell").execute() == "done"


# --- the model --------------------------------------------------------------------------------------------------------


def helper(*answers: str, **options: Any) -> tuple[ModelAgent, ScriptedModel]:
    """An agent whose model calls the tool, is asked by the server, and then answers."""
    call = ModelResponse("", "scripted", tool_calls=(ToolCall("1", "mcp://raw/sample", options.pop("arguments", {})),))
    model = ScriptedModel([call, *answers, "The end."])
    return ModelAgent("helper", tools=["mcp://raw/*"], provider=model, stream=False), model


async def ask_helper(dispatcher: Dispatcher) -> Run:
    run = await dispatcher.start(Call(dispatcher.catalogue.find("helper"), {"message": "My secret is 42. Sample!"}))
    await run.wait()
    assert run.error is None
    return run


def result_of(run: Run) -> str:
    return next(str(event.data.get("result", event.data.get("error"))) for event in run.backlog() if event.type == "tool.result")


@ERAS
async def test_server_may_ask_the_agents_model_which_hears_whose_words_they_are(era: list[str]) -> None:
    agent, model = helper("5")
    async with calling(raw(*era, sampling=True), agents=(agent,)) as (dispatcher, _):
        run = await ask_helper(dispatcher)
    assert '"text": "5"' in result_of(run)
    asked = model.calls[1]
    assert "MCP server 'raw'" in asked.messages[0]["content"]
    assert asked.messages[0]["content"].endswith("Be brief.")
    assert asked.messages[1] == {"role": "user", "content": "What is 2 + 3?"}
    assert "secret" not in json.dumps(asked.messages)
    assert not asked.tools
    told = next(event.data for event in run.backlog() if event.type == "tool.sampled")
    assert (told["name"], told["model"]) == ("mcp://raw/sample", "scripted")


@ERAS
async def test_what_a_server_asks_the_model_is_counted_for_the_run_and_whose_it_is(era: list[str]) -> None:
    agent, model = helper("5")
    async with calling(raw(*era, sampling=True), agents=(agent,)) as (dispatcher, _):
        endpoint = dispatcher.catalogue.find("helper")
        run = await dispatcher.start(Call(endpoint, {"message": "Sample!"}, principal="ada"))
        await run.wait()
        (hers,) = await dispatcher.book.store.usage(UsageQuery(principal="ada"))
    assert len(model.calls) == 3
    assert [(row.principal, row.usage.calls) for row in run.usage] == [("ada", 3)]
    assert hers.usage.calls == 3


@ERAS
async def test_model_is_asked_for_text_of_a_bounded_length_only(era: list[str]) -> None:
    agent, model = helper("x" * 5000)
    async with calling(raw(*era, sampling=True, sampling_max_tokens=10), agents=(agent,)) as (dispatcher, _):
        run = await ask_helper(dispatcher)
    assert f'"text": "{"x" * 40}"' in result_of(run)
    assert '"maxTokens"' in result_of(run)
    agent, model = helper(arguments={"said": {"type": "image", "data": "aGk=", "mimeType": "image/png"}})
    async with calling(raw(*era, sampling=True), agents=(agent,)) as (dispatcher, _):
        assert "only text is served" in result_of(await ask_helper(dispatcher))
    assert len(model.calls) == 2


@ERAS
async def test_model_that_fails_is_no_secret_but_its_reason_is(era: list[str]) -> None:
    class Failing(ScriptedModel):
        async def chat(self, *args: Any, **options: Any) -> ModelResponse:
            raise ModelError("openai", "the key sk-123 is wrong")

    async with calling(raw(*era, sampling=True), model_provider=Failing()) as (dispatcher, _):
        run = await begin(dispatcher, "sample")
        await run.wait()
        said = run.output if run.error is None else str(run.error)
        assert "The model gave no answer." in said
        assert "sk-123" not in said


def sample() -> str:
    """Of our own."""
    return "ours"


async def test_tool_with_the_name_of_the_agents_own_is_kept_apart_and_told(caplog: pytest.LogCaptureFixture) -> None:
    model = ScriptedModel(["The end."])
    agent = ModelAgent("helper", tools=["mcp://raw/sample", sample], provider=model, stream=False)
    async with calling(raw(), agents=(agent,)) as (dispatcher, _):
        run = await ask_helper(dispatcher)
    assert [tool["function"]["name"] for tool in model.calls[0].tools] == ["raw__sample", "sample"]
    told = [event.data for event in run.backlog() if event.type == "tool.shadowed"]
    assert told == [{"name": "mcp://raw/sample", "shadows": "sample"}]
    assert "has the name of its own tool 'sample'" in caplog.text


# --- over HTTP --------------------------------------------------------------------------------------------------------


@ERAS
async def test_answer_is_given_by_post_runs_input(era: list[str]) -> None:
    supervisor, tools = build_upstreams([raw(*era)])
    runtime = Runtime(Supervisor("root", children=[supervisor, Caller("caller")]), tool_registry=tools)
    with anyio.fail_after(50):
        async with listening(create_app(runtime, ANY_PORT)) as served:
            body = {"agent": "caller", "operation": "use", "payload": {"tool": "ask"}}
            begun = (await served.client.post("/runs", json=body)).json()
            path = f"/runs/{begun['run_id']}"
            while (seen := (await served.client.get(path)).json())["status"] != "waiting":
                pass
            assert seen["waiting_for"]["prompt"].startswith("The MCP server 'raw' asks")
            assert (await served.client.post(f"{path}/input", json={"color": 1})).status_code == 422
            assert (await served.client.post(f"{path}/input", json={"color": "red"})).status_code == 200
            while (seen := (await served.client.get(path)).json())["status"] != "succeeded":
                pass
            assert "red" in seen["output"]
