"""What agents let read, and what the gateway has of its own, read by the SDK's own client in both eras."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.client.subscriptions import PromptsListChanged, ResourcesListChanged
from mcp.types import INVALID_PARAMS, BlobResourceContents, TextResourceContents

from portico.kernel.dynamic_supervisor import DynamicSupervisor
from portico.kernel.process import AgentProcess
from portico.mcp_bridge.serving.options import ServingOptions
from portico.operations.decorators import contract, resource
from portico.runs.call import Call
from tests.mcp_bridge.helpers import Who, gateway
from tests.mcp_bridge.serving.library import PIXEL, Library, Waiter, Writer
from tests.mcp_bridge.serving.test_server import client_as

pytestmark = pytest.mark.anyio

ERAS = ["2026-07-28", "legacy"]


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> str:
    return request.param


async def read(client: Client, uri: str) -> tuple[str | None, str]:
    """The media type and the text at an address."""
    (found,) = (await client.read_resource(uri)).contents
    assert isinstance(found, TextResourceContents)
    assert found.uri == uri
    return found.mime_type, found.text


async def refusal(client: Client, uri: str) -> tuple[int, str, Any]:
    with pytest.raises(MCPError) as caught:
        await client.read_resource(uri)
    return caught.value.error.code, caught.value.error.message, caught.value.error.data


async def test_what_is_declared_is_listed_by_address_before_the_gateways_own(era: str) -> None:
    async with gateway(Library("library"), Writer("writer")) as (url, _), Client(url, mode=era) as client:
        resources = (await client.list_resources()).resources
        templates = (await client.list_resource_templates()).resource_templates
        tools = [tool.name for tool in (await client.list_tools()).tools]
    assert [(one.uri, one.mime_type) for one in resources] == [
        ("notes://cover", "application/octet-stream"),
        ("notes://fresh", "application/json"),
        ("notes://index", "text/markdown"),
        ("portico://agents", "application/json"),
        ("portico://agents/library", "application/json"),
        ("portico://agents/writer", "application/json"),
        ("portico://runs", "application/json"),
    ]
    assert (resources[2].name, resources[2].title, resources[2].description) == ("index", "The index", "What there is.")
    assert [(one.uri_template, one.name) for one in templates] == [
        ("notes://search{?words,limit}", "search"),
        ("notes://topics/{topic}/{page}", "a page"),
        ("portico://agents/{name}", "agent"),
        ("portico://runs/{run_id}", "run"),
        ("portico://runs/{run_id}/events{?after}", "run events"),
        ("portico://runs/{run_id}/output", "run output"),
    ]
    assert tools == ["fetch_result", "library-topics", "library-write", "writer"], "what is read is no tool, unless it says so"


async def test_text_is_read_as_it_is_and_anything_else_as_json(era: str) -> None:
    async with gateway(Library("library")) as (url, _), Client(url, mode=era) as client:
        assert await read(client, "notes://index") == ("text/markdown", "# Notes")
        assert await read(client, "notes://topics/tea%20%26%20co/3") == ("application/json", '{"topic":"tea & co","page":3}')
        assert await read(client, "notes://search?limit=2&words=a%20b") == ("application/json", '{"words":"a b","limit":2}')
        assert await read(client, "notes://search") == ("application/json", '{"words":"","limit":10}')


async def test_bytes_are_read_as_a_blob(era: str) -> None:
    async with gateway(Library("library")) as (url, _), Client(url, mode=era) as client:
        (found,) = (await client.read_resource("notes://cover")).contents
    assert isinstance(found, BlobResourceContents)
    assert (found.mime_type, b64decode(found.blob)) == ("application/octet-stream", PIXEL)


@pytest.mark.parametrize(
    "uri", ["notes://nothing", "notes://topics/tea/1/2", "portico://runs/none", "portico://agents/none", "portico://x"]
)
async def test_what_is_not_there_has_the_code_of_the_clients_era(era: str, uri: str) -> None:
    async with gateway(Library("library")) as (url, _), Client(url, mode=era) as client:
        code, message, data = await refusal(client, uri)
    assert code == (INVALID_PARAMS if era == "2026-07-28" else -32002)
    assert message.startswith(f"There is nothing to read at '{uri}'")
    assert (data["slug"], data["uri"]) == ("resource-not-found", uri)


async def test_an_agent_that_cannot_answer_says_why_and_a_crash_tells_nothing(era: str) -> None:
    async with gateway(Library("library", restart="temporary")) as (url, _), Client(url, mode=era) as client:
        violated = await refusal(client, "notes://topics/tea/first")
        refused = await refusal(client, "notes://topics/nothing/1")
        crashed = await refusal(client, "notes://topics/crash/1")
    assert (violated[0], violated[2]["errors"][0]["path"]) == (INVALID_PARAMS, "/page")
    assert (refused[1], refused[2]["slug"]) == ("Nobody wrote about nothing.", "no-such-topic")
    assert crashed[2]["slug"] in {"agent-crashed", "agent-failed"}
    assert "a secret" not in str(crashed)


async def test_the_tree_is_what_http_shows(era: str) -> None:
    async with gateway(Library("library"), Writer("writer")) as (url, _), Client(url, mode=era) as client:
        tree = json.loads((await read(client, "portico://agents"))[1])
        agent = json.loads((await read(client, "portico://agents/library"))[1])
    assert (tree["name"], [child["name"] for child in tree["children"]]) == ("root", ["library", "writer"])
    assert (agent["name"], agent["status"]) == ("library", "running")
    assert {"name": "index", "path": "/agents/library/index", "resource": "notes://index"} in agent["operations"]
    assert "state" not in agent


async def test_a_run_is_read_by_whom_it_belongs_to_and_nobody_else(era: str) -> None:
    async with gateway(Who("who"), Library("library")) as (url, endpoint):
        dispatcher = endpoint.served.dispatcher
        run = await dispatcher.submit(Call(dispatcher.catalogue.find("who"), {}, principal="alice"))
        with anyio.fail_after(20):
            await run.wait()
        async with client_as("alice", url, era) as client:
            record = json.loads((await read(client, f"portico://runs/{run.run_id}"))[1])
            output = await read(client, f"portico://runs/{run.run_id}/output")
            media_type, lines = await read(client, f"portico://runs/{run.run_id}/events")
            later = (await read(client, f"portico://runs/{run.run_id}/events?after=1"))[1]
            mine = json.loads((await read(client, "portico://runs"))[1])["runs"]
        async with client_as("bob", url, era) as client:
            foreign = [
                (await refusal(client, f"portico://runs/{run.run_id}{rest}"))[2]["slug"] for rest in ("", "/output", "/events")
            ]
            theirs = json.loads((await read(client, "portico://runs"))[1])["runs"]
    assert (record["run_id"], record["status"], record["agent"]) == (run.run_id, "succeeded", "who")
    assert output[0] in {"text/plain", "application/json"}
    assert "alice" in output[1]
    events = [json.loads(line) for line in lines.splitlines()]
    assert media_type == "application/jsonl"
    assert [event["type"] for event in events] == ["run.started", "run.succeeded"]
    assert later.splitlines() == lines.splitlines()[1:]
    assert [one["run_id"] for one in mine] == [run.run_id]
    assert foreign == ["resource-not-found"] * 3
    assert theirs == []


async def test_a_run_without_an_output_says_where_it_is(era: str) -> None:
    waiter = Waiter("waiter")
    async with gateway(waiter) as (url, endpoint), Client(url, mode=era) as client:
        dispatcher = endpoint.served.dispatcher
        run = await dispatcher.submit(Call(dispatcher.catalogue.find("waiter"), {}))
        try:
            _, message, data = await refusal(client, f"portico://runs/{run.run_id}/output")
        finally:
            waiter.go.set()
    assert "has no output, it is" in message
    assert data["slug"] == "resource-not-found"


async def test_lists_follow_the_agents_that_come_and_go_and_say_so() -> None:
    crew = DynamicSupervisor("crew")
    async with gateway(crew, Library("library")) as (url, endpoint), Client(url, mode="2026-07-28") as client:
        runtime = endpoint.served.dispatcher.runtime
        with anyio.fail_after(20):
            async with client.listen(resources_list_changed=True, prompts_list_changed=True) as heard:
                before = [one.name for one in (await client.list_prompts()).prompts]
                await crew.spawn(Writer, "writer")
                told = {type(await anext(heard)), type(await anext(heard))}
                after = [one.name for one in (await client.list_prompts(cache_mode="refresh")).prompts]
                listed = [one.uri for one in (await client.list_resources(cache_mode="refresh")).resources]
                prompts = json.loads((await read(client, "portico://agents/writer"))[1])["operations"]
                await crew.despawn("writer")
                told_again = {type(await anext(heard)), type(await anext(heard))}
        assert runtime.find("writer") is None
    assert told == told_again == {ResourcesListChanged, PromptsListChanged}
    assert (before, "praise" in after) == ([], True)
    assert "portico://agents/writer" in listed
    assert {"name": "conversation", "path": "/agents/writer/conversation", "prompt": "talk"} in prompts


class Odd(AgentProcess):
    """Has something to read of which nobody can say what it is."""

    @resource("odd://thing")
    @contract(response=Callable[[], int])
    async def thing(self) -> object:
        return len


async def test_an_agent_that_comes_with_a_type_without_a_schema_takes_no_list_along(caplog: pytest.LogCaptureFixture) -> None:
    crew = DynamicSupervisor("crew")
    async with gateway(crew, Library("library")) as (url, endpoint), Client(url, mode="2026-07-28") as client:
        with anyio.fail_after(20):
            async with client.listen(resources_list_changed=True) as heard:
                await crew.spawn(Odd, "odd")
                assert isinstance(await anext(heard), ResourcesListChanged)
                uris = [one.uri for one in (await client.list_resources()).resources]
        assert endpoint.served.dispatcher.catalogue.has("odd")
    assert "notes://index" in uris
    assert "odd://thing" not in uris
    assert "'odd://thing' is not served" in caplog.text


async def test_lists_have_pages(era: str) -> None:
    async with (
        gateway(Library("library"), Writer("writer"), options=ServingOptions(page_size=2)) as (url, _),
        Client(url, mode=era) as client,
    ):
        uris: list[str] = []
        cursor, pages = None, 0
        while pages == 0 or cursor is not None:
            page = await client.list_resources(cursor=cursor)
            uris += [one.uri for one in page.resources]
            cursor, pages = page.next_cursor, pages + 1
        templates = await client.list_resource_templates()
        prompts = await client.list_prompts()
        with pytest.raises(MCPError, match="cursor"):
            await client.list_prompts(cursor="x")
    assert (len(uris), uris == sorted(set(uris)), pages) == (7, True, 4)
    assert [len(templates.resource_templates), len(prompts.prompts)] == [2, 2]
    assert None not in (templates.next_cursor, prompts.next_cursor)
