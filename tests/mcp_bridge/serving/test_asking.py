"""What a handler asks its caller, answered by the SDK's own client in both eras: elicitation, sampling, roots."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import anyio
import pytest
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CallToolResult,
    CreateMessageResult,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    ElicitResult,
    ErrorData,
    ListRootsResult,
    PromptReference,
    Root,
    TextContent,
    TextResourceContents,
)
from pydantic import BaseModel

from portico.errors import InputDeclined, InputTimeout
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.kernel.questions import Question
from portico.mcp_bridge.serving.options import ServingOptions
from portico.operations.decorators import operation, prompt, resource
from portico.runs.status import RunStatus
from portico.runs.store import RunQuery
from tests.app.serving import served
from tests.mcp_bridge.helpers import Scripted, gateway

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp.client.session import ClientRequestContext, ElicitationFnT
    from mcp.types import CreateMessageRequestParams, ElicitRequestParams

    from portico.mcp_bridge.serving.http import MCPEndpoint
    from portico.runs.run import Run

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

ERAS = ["2026-07-28", "legacy"]
NAME = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> str:
    return request.param


class Person:
    """Answers what is asked, one after the other, and remembers what that was."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[ElicitRequestParams] = []

    async def __call__(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult | ErrorData:
        self.asked.append(params)
        answer = self.answers.pop(0)
        if isinstance(answer, ElicitResult | ErrorData):
            return answer
        return ElicitResult(action="accept", content=answer)

    @property
    def forms(self) -> list[tuple[str, dict[str, Any]]]:
        """The messages and schemas of the forms."""
        return [(one.message, one.requested_schema) for one in self.asked if isinstance(one, ElicitRequestFormParams)]


async def model(context: ClientRequestContext, params: CreateMessageRequestParams) -> CreateMessageResult:
    said = params.messages[-1].content
    assert isinstance(said, TextContent)
    return CreateMessageResult(role="assistant", content=TextContent(text=f"re: {said.text}"), model="m", stop_reason="endTurn")


async def folders(context: ClientRequestContext) -> ListRootsResult:
    return ListRootsResult(roots=[Root.model_validate({"uri": "file:///home/ada", "name": "home"})])


async def called(script: Callable[[Context], Awaitable[Any]], era: str, **callbacks: Any) -> CallToolResult:
    """The result of a tool with that handler."""
    with anyio.fail_after(30):
        async with gateway(Scripted("scripted", script)) as (url, _), Client(url, mode=era, **callbacks) as client:
            return await client.call_tool("scripted")


def problem(result: CallToolResult) -> dict[str, Any]:
    assert result.is_error
    assert result.meta is not None
    return result.meta["portico/error"]


def value(result: CallToolResult) -> Any:
    """What the handler returned."""
    assert not result.is_error, result.content
    assert isinstance(result.content[0], TextContent)
    return result.content[0].text


async def runs_of(endpoint: MCPEndpoint) -> list[Run]:
    return await endpoint.served.dispatcher.book.page(RunQuery(limit=100))


async def waits(endpoint: MCPEndpoint) -> Run:
    """The one run, once it waits."""
    while True:
        for run in await runs_of(endpoint):
            if run.status is RunStatus.WAITING:
                return run
        await asyncio.sleep(0.005)


# --- elicitation ------------------------------------------------------------------------------------------------------


async def test_a_person_fills_in_the_form_that_a_handler_waits_for(era: str) -> None:
    handled = 0

    async def script(ctx: Context) -> str:
        nonlocal handled
        handled += 1
        answer = await ctx.wait_input("Who are you?", NAME)
        return f"Hello, {answer['name']}!"

    person = Person({"name": "Ada"})
    assert value(await called(script, era, elicitation_callback=person)) == "Hello, Ada!"
    assert person.forms == [("Who are you?", NAME)]
    assert handled == 2  # from the beginning again, as by every other face


class Order(BaseModel):
    item: str
    size: Literal["small", "large"] = "small"
    pieces: int | None = None


async def test_a_model_of_pydantic_becomes_a_form_and_its_answer_that_model(era: str) -> None:
    async def script(ctx: Context) -> str:
        order = await ctx.wait_input("What?", Order)
        assert isinstance(order, Order)
        return repr(order)

    person = Person({"item": "cake", "pieces": 2.0})
    assert value(await called(script, era, elicitation_callback=person)) == "Order(item='cake', size='small', pieces=2)"
    schema = person.forms[0][1]
    assert schema["required"] == ["item"]
    assert schema["properties"]["size"] == {"type": "string", "enum": ["small", "large"], "default": "small", "title": "Size"}
    assert schema["properties"]["pieces"] == {"type": "integer", "title": "Pieces"}


@pytest.mark.parametrize(("schema", "shown", "answer"), [
    ({"type": "boolean"}, {"type": "boolean"}, True),
    (None, {"type": "string"}, "anything"),
    (int, {"type": "integer"}, 7),
])  # fmt: skip
async def test_what_is_no_object_is_asked_for_as_one_member(era: str, schema: Any, shown: Any, answer: Any) -> None:
    async def script(ctx: Context) -> str:
        return repr(await ctx.wait_input("Well?", schema))

    person = Person({"answer": answer})
    assert value(await called(script, era, elicitation_callback=person)) == repr(answer)
    assert person.forms[0][1] == {"type": "object", "properties": {"answer": shown}, "required": ["answer"]}


async def test_a_handler_asks_as_often_as_it_likes_and_answers_are_not_mixed_up(era: str) -> None:
    async def script(ctx: Context) -> str:
        return " ".join([await ctx.wait_input(f"Question {n}?", str) for n in range(4)])

    person = Person(*({"answer": f"answer-{n}"} for n in range(4)))
    assert value(await called(script, era, elicitation_callback=person)) == "answer-0 answer-1 answer-2 answer-3"
    assert [message for message, _ in person.forms] == [f"Question {n}?" for n in range(4)]


async def test_an_answer_that_is_not_valid_is_asked_for_again_and_says_why(era: str) -> None:
    async def script(ctx: Context) -> str:
        return await ctx.wait_input("A word of four letters?", {"type": "string", "minLength": 4, "maxLength": 4})

    person = Person({"answer": "three"}, {"answer": "four"})
    assert value(await called(script, era, elicitation_callback=person)) == "four"
    again = person.forms[1][0]
    assert again.startswith("A word of four letters?\n")
    assert "'three' is too long" in again


@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_person_who_declines_is_an_error_that_a_handler_can_catch(era: str, action: Any) -> None:
    async def script(ctx: Context) -> str:
        try:
            return await ctx.wait_input("Pay?", str)
        except InputDeclined as error:
            return f"{error.extra['actions']}"

    person = Person(ElicitResult(action=action))
    assert value(await called(script, era, elicitation_callback=person)) == f"{{'input': '{action}'}}"


async def test_a_person_who_declines_is_the_end_of_a_call_whose_handler_does_not_catch_it(era: str) -> None:
    async def script(ctx: Context) -> str:
        return await ctx.wait_input("Pay?", str)

    result = await called(script, era, elicitation_callback=Person(ElicitResult(action="decline")))
    about = problem(result)
    assert about["slug"] == "input-declined"
    assert about["run_id"]
    assert result.content == [TextContent(text="The answer was declined: Pay?")]


async def test_a_client_of_the_old_era_that_answers_an_error_has_declined() -> None:
    async def script(ctx: Context) -> str:
        try:
            return await ctx.wait_input("Well?", str)
        except InputDeclined as error:
            return error.extra["actions"]["input"]

    person = Person(ErrorData(code=-1, message="no screen"))
    assert value(await called(script, "legacy", elicitation_callback=person)) == "no screen"


async def test_who_never_answers_validly_has_declined_in_the_end() -> None:
    async def script(ctx: Context) -> str:
        return await ctx.wait_input("How many?", int)

    person = Person(*[{"answer": "many"}] * 3)
    assert problem(await called(script, "legacy", elicitation_callback=person))["slug"] == "input-declined"
    assert len(person.asked) == 3


async def test_what_does_not_fit_into_a_form_is_told_and_nothing_waits(era: str) -> None:
    async def script(ctx: Context) -> Any:
        return await ctx.wait_input("Where?", {"type": "object", "properties": {"at": {"type": "object"}}})

    result = await called(script, era, elicitation_callback=Person())
    assert problem(result)["slug"] == "caller-cannot-answer"
    assert "`/at` is neither a text, a number, yes or no, nor a choice" in value_of_error(result)


def value_of_error(result: CallToolResult) -> str:
    assert isinstance(result.content[0], TextContent)
    return result.content[0].text


async def test_a_person_is_led_to_an_address(era: str) -> None:
    async def script(ctx: Context) -> str:
        return repr(await ctx.visit("https://pay.example/7", "Pay there."))

    person = Person(ElicitResult(action="accept"))
    assert value(await called(script, era, elicitation_callback=person)) == "True"
    (asked,) = person.asked
    assert isinstance(asked, ElicitRequestURLParams)
    assert (asked.url, asked.message) == ("https://pay.example/7", "Pay there.")


# --- sampling and roots -----------------------------------------------------------------------------------------------


async def test_the_callers_model_writes_the_next_message(era: str) -> None:
    async def script(ctx: Context) -> str:
        first = await ctx.sample("capital of France?", max_tokens=50)
        chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": [{"type": "text", "text": "b"}]}]
        second = await ctx.sample([*chat, {"role": "user", "content": "c"}], system_prompt="Be brief.", temperature=0.5)
        assert first == {"role": "assistant", "content": {"type": "text", "text": first["content"]["text"]},
                         "model": "m", "stopReason": "endTurn"}  # fmt: skip
        return f"{first['content']['text']} / {second['content']['text']}"

    assert value(await called(script, era, sampling_callback=model)) == "re: capital of France? / re: c"


async def test_the_caller_tells_its_folders(era: str) -> None:
    async def script(ctx: Context) -> list[Any]:
        return await ctx.roots()

    assert "file:///home/ada" in value(await called(script, era, list_roots_callback=folders))


async def test_several_things_are_asked_at_once(era: str) -> None:
    async def script(ctx: Context) -> str:
        answers = await ctx.wait_inputs(
            {"who": Question.input("Who?", Order), "text": Question.sample("hi"), "where": Question.roots()}
        )
        return f"{answers['who'].item} {answers['text']['content']['text']} {answers['where']['roots'][0]['name']}"

    result = await called(
        script, era, elicitation_callback=Person({"item": "cake"}), sampling_callback=model, list_roots_callback=folders
    )
    assert value(result) == "cake re: hi home"


async def test_what_is_no_conversation_is_told(era: str) -> None:
    async def script(ctx: Context) -> Any:
        return await ctx.sample([{"role": "nobody", "content": "x"}])

    assert problem(await called(script, era, sampling_callback=model))["slug"] == "caller-cannot-answer"


# --- clients that cannot answer ---------------------------------------------------------------------------------------

ASKING: dict[str, Callable[[Context], Awaitable[Any]]] = {
    "elicitation": lambda ctx: ctx.wait_input("Who?", str),
    "sampling": lambda ctx: ctx.sample("hi"),
    "roots": lambda ctx: ctx.roots(),
}


@pytest.mark.parametrize("capability", ASKING)
async def test_a_client_of_the_new_era_without_the_capability_is_told_which_and_nothing_waits(capability: str) -> None:
    with anyio.fail_after(30):
        async with gateway(Scripted("scripted", ASKING[capability])) as (url, endpoint), Client(url, mode=ERAS[0]) as client:
            with pytest.raises(MCPError) as failure:
                await client.call_tool("scripted")
            (run,) = await runs_of(endpoint)
            await run.wait()
    assert failure.value.error.code == MISSING_REQUIRED_CLIENT_CAPABILITY
    assert list(failure.value.error.data["requiredCapabilities"]) == [capability]
    assert run.status is RunStatus.CANCELLED


@pytest.mark.parametrize("capability", ["sampling", "roots"])
async def test_a_client_of_the_old_era_without_the_capability_gets_a_tool_error(capability: str) -> None:
    assert problem(await called(ASKING[capability], "legacy"))["slug"] == "caller-cannot-answer"


async def test_a_handler_can_look_what_its_caller_answers(era: str) -> None:
    async def script(ctx: Context) -> str:
        return " ".join(kind for kind in ("input", "visit", "sample", "roots") if ctx.can_ask(kind))

    assert value(await called(script, era)) == ""
    assert value(await called(script, era, sampling_callback=model)) == "sample"
    assert value(await called(script, era, list_roots_callback=folders)) == "roots"


async def test_what_a_client_of_the_old_era_cannot_be_asked_somebody_else_can_answer_by_http() -> None:
    async def script(ctx: Context) -> str:
        return f"{await ctx.wait_input('Approve?', str)}!"

    with anyio.fail_after(30):
        async with served(Scripted("scripted", script)) as face:
            async with Client(f"http://127.0.0.1:{face.port}/mcp", mode="legacy") as client:
                result = await client.call_tool("scripted")
            about = problem(result)
            run_id = about["run_id"]
            waiting = (await face.client.get(f"/runs/{run_id}")).json()
            answered = await face.client.post(f"/runs/{run_id}/input", json="yes")
            run = await face.gateway.dispatcher.book.find(run_id, None)
            await run.wait()
            ended = (await face.client.get(f"/runs/{run_id}")).json()
    assert about["slug"] == "caller-cannot-answer"
    assert f"POST /runs/{run_id}/input" in value_of_error(result)
    assert (waiting["status"], waiting["waiting_for"]["prompt"]) == ("waiting", "Approve?")
    assert answered.status_code == 200
    assert (ended["status"], ended["output"]) == ("succeeded", "yes!")


async def test_what_is_asked_of_a_caller_over_http_is_shown_and_answered_there() -> None:
    async def script(ctx: Context) -> str:
        said = await ctx.sample("hi", max_tokens=7)
        return said["content"]["text"]

    with anyio.fail_after(30):
        async with served(Scripted("scripted", script)) as face:
            run_id = (await face.client.post("/runs", json={"agent": "scripted"})).json()["run_id"]
            run = await face.gateway.dispatcher.book.find(run_id, None)
            while run.waiting is None:
                await run.news(run.last_visible, None)
            waiting = (await face.client.get(f"/runs/{run_id}")).json()["waiting_for"]
            wrong = await face.client.post(f"/runs/{run_id}/input", json={"role": "assistant"})
            message = {"role": "assistant", "content": {"type": "text", "text": "hello"}, "model": "me"}
            right = await face.client.post(f"/runs/{run_id}/input", json=message)
            await run.wait()
    assert (waiting["asks"], waiting["params"]["max_tokens"]) == ("sample", 7)
    assert waiting["params"]["messages"] == [{"role": "user", "content": {"type": "text", "text": "hi"}}]
    assert (wrong.status_code, right.status_code) == (422, 200)
    assert run.output == "hello"


# --- who goes away, and who never answers -----------------------------------------------------------------------------


async def test_a_question_is_withdrawn_when_somebody_else_has_answered() -> None:
    asked, withdrawn = asyncio.Event(), asyncio.Event()

    async def hesitates(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        asked.set()
        try:
            await anyio.sleep_forever()
        finally:
            withdrawn.set()
        raise AssertionError

    async def script(ctx: Context) -> str:
        return await ctx.wait_input("Who?", str)

    with anyio.fail_after(30):
        async with (
            gateway(Scripted("scripted", script)) as (url, endpoint),
            Client(url, mode="legacy", elicitation_callback=hesitates) as client,
            anyio.create_task_group() as tasks,
        ):

            async def elsewhere() -> None:
                await asked.wait()
                await endpoint.served.dispatcher.book.answer(await waits(endpoint), "somebody")

            tasks.start_soon(elsewhere)
            assert value(await client.call_tool("scripted")) == "somebody"
            await withdrawn.wait()


@pytest.mark.parametrize("by", ["cancellation", "timeout"])
async def test_a_call_that_is_cancelled_while_it_waits_cancels_its_run_and_its_question(by: str) -> None:
    asked, withdrawn = asyncio.Event(), asyncio.Event()

    async def hesitates(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        asked.set()
        try:
            await anyio.sleep_forever()
        finally:
            withdrawn.set()
        raise AssertionError

    async def script(ctx: Context) -> str:
        return await ctx.wait_input("Who?", str)

    with anyio.fail_after(30):
        async with (
            gateway(Scripted("scripted", script)) as (url, endpoint),
            Client(url, mode="legacy", elicitation_callback=hesitates) as client,
        ):
            async with anyio.create_task_group() as tasks:

                async def call() -> None:
                    if by == "timeout":
                        with pytest.raises(MCPError):
                            await client.call_tool("scripted", read_timeout_seconds=1.0)
                    else:
                        await client.call_tool("scripted")

                tasks.start_soon(call)
                await asked.wait()
                if by == "cancellation":
                    tasks.cancel_scope.cancel()
            (run,) = await runs_of(endpoint)
            await run.wait()
            await withdrawn.wait()
    assert run.status is RunStatus.CANCELLED


async def test_a_client_of_the_old_era_that_never_answers_ends_its_call() -> None:
    async def never(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        await anyio.sleep_forever()
        raise AssertionError

    async def script(ctx: Context) -> str:
        return await ctx.wait_input("Who?", str)

    with anyio.fail_after(30):
        async with (
            gateway(Scripted("scripted", script), options=ServingOptions(input_timeout=0.3)) as (url, _),
            Client(url, mode="legacy", elicitation_callback=never) as client,
        ):
            assert problem(await client.call_tool("scripted"))["slug"] == "input-timeout"


async def test_a_handlers_own_limit_holds_while_a_client_is_asked() -> None:
    async def never(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        await anyio.sleep_forever()
        raise AssertionError

    async def script(ctx: Context) -> str:
        try:
            await ctx.wait_input("Who?", str, timeout=0.2)
        except InputTimeout:
            return await ctx.wait_input("Nobody?", str, timeout=0.2, default="nobody")
        return "somebody"

    assert value(await called(script, "legacy", elicitation_callback=never)) == "nobody"


async def test_no_worker_is_held_while_a_client_is_asked(era: str) -> None:
    """The one process of the agent answers a second call while the first one waits."""
    both = asyncio.Event()

    async def script(ctx: Context) -> str:
        return await ctx.wait_input("Who?", str)

    async def person(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        nonlocal asked
        asked += 1
        if asked == 2:
            both.set()
        await both.wait()  # nobody answers before both calls have come so far
        return ElicitResult(action="accept", content={"answer": "me"})

    asked = 0
    callback: ElicitationFnT = person
    with anyio.fail_after(30):
        async with (
            gateway(Scripted("scripted", script)) as (url, _),
            Client(url, mode=era, elicitation_callback=callback) as client,
            asyncio.TaskGroup() as tasks,
        ):
            calls = [tasks.create_task(client.call_tool("scripted")) for _ in range(2)]
    assert [value(call.result()) for call in calls] == ["me", "me"]


# --- prompts, resources, completion -----------------------------------------------------------------------------------


class Librarian(AgentProcess):
    """Asks before anything is read or got."""

    @prompt(complete={"topic": "topics"})
    async def review(self, topic: str, ctx: Context) -> str:
        """Words."""
        return f"Review {topic} for {await ctx.wait_input('Whom for?', str)}."

    @resource("notes://{topic}")
    async def notes(self, topic: str, ctx: Context) -> str:
        """Notes."""
        return f"{topic}: {await ctx.wait_input('Which page?', int)}"

    @operation
    async def topics(self, value: str, ctx: Context) -> list[str]:
        return [await ctx.wait_input("Which?", str)]


async def test_prompts_and_resources_ask_the_client_as_tools_do(era: str) -> None:
    person = Person({"answer": "Ada"}, {"answer": 7})
    with anyio.fail_after(30):
        async with gateway(Librarian("librarian")) as (url, _), Client(url, mode=era, elicitation_callback=person) as client:
            (prompted,) = [one.name for one in (await client.list_prompts()).prompts]
            got = await client.get_prompt(prompted, {"topic": "cakes"})
            read = await client.read_resource("notes://cakes")
    assert got.messages[0].content == TextContent(text="Review cakes for Ada.")
    assert isinstance(read.contents[0], TextResourceContents)
    assert read.contents[0].text == "cakes: 7"
    assert [message for message, _ in person.forms] == ["Whom for?", "Which page?"]


async def test_what_completes_an_argument_can_ask_nobody_and_does_not_hang(era: str) -> None:
    with anyio.fail_after(30):
        async with gateway(Librarian("librarian")) as (url, _), Client(url, mode=era, elicitation_callback=Person()) as client:
            (prompted,) = [one.name for one in (await client.list_prompts()).prompts]
            with pytest.raises(MCPError, match="can ask nobody"):
                await client.complete(PromptReference(name=prompted), {"name": "topic", "value": "c"})


# --- over stdio -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ERAS)
async def test_a_person_is_asked_over_stdio(mode: str, tmp_path: Path) -> None:
    script, root = Path(__file__).with_name("stdio_server.py"), Path(__file__).parents[3]
    parameters = StdioServerParameters(command=sys.executable, args=[str(script)], env={"PYTHONPATH": str(root)})
    person = Person({"answer": "Ada"})
    with anyio.fail_after(60), (tmp_path / "stderr").open("w") as log:
        async with Client(stdio_client(parameters, errlog=log), mode=mode, elicitation_callback=person) as client:
            result = await client.call_tool("asking")
        async with Client(stdio_client(parameters, errlog=log), mode="legacy") as client:
            refused = await client.call_tool("asking")
    assert value(result) == "Ada"
    assert problem(refused)["slug"] == "caller-cannot-answer"
    assert "/runs/" not in value_of_error(refused)  # nobody could answer there
