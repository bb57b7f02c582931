"""Prompts that agents declare, got by the SDK's own client in both eras, and what completes their arguments."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    AudioContent,
    EmbeddedResource,
    ImageContent,
    PromptReference,
    ResourceLink,
    ResourceTemplateReference,
    TextContent,
)

from portico.kernel.process import AgentProcess
from portico.operations.decorators import prompt
from portico.runs.call import Call
from tests.mcp_bridge.helpers import Who, gateway
from tests.mcp_bridge.serving.library import PIXEL, Library, Writer
from tests.mcp_bridge.serving.test_server import client_as

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["2026-07-28", "legacy"])
def era(request: pytest.FixtureRequest) -> str:
    return request.param


async def refusal(client: Client, name: str, arguments: dict[str, str] | None = None) -> tuple[int, str, Any]:
    with pytest.raises(MCPError) as caught:
        await client.get_prompt(name, arguments)
    return caught.value.error.code, caught.value.error.message, caught.value.error.data


async def completed(
    client: Client, ref: PromptReference | ResourceTemplateReference, name: str, value: str, **known: str
) -> list[str]:
    found = (await client.complete(ref, {"name": name, "value": value}, known or None)).completion
    assert (found.total, found.has_more) == (len(found.values), False)
    return found.values


async def test_prompts_are_listed_by_name_with_what_their_contract_takes(era: str) -> None:
    async with gateway(Writer("writer")) as (url, _), Client(url, mode=era) as client:
        prompts = (await client.list_prompts()).prompts
        tools = (await client.list_tools()).tools
    assert [one.name for one in prompts] == ["bad", "both", "drawn", "half", "praise", "spoken", "talk"]
    praise = prompts[4]
    assert (praise.title, praise.description) == ("Praise something", "Words of praise.")
    assert [(one.name, one.description, one.required) for one in praise.arguments or ()] == [
        ("what", "What is to be praised.", True),
        ("language", None, False),
        ("times", None, False),
        ("rhymes", None, False),
    ]
    assert (prompts[6].description, prompts[6].arguments) == ("A talk.", [])
    assert [tool.name for tool in tools] == ["fetch_result", "writer"], "only what says @operation as well is a tool"


async def test_arguments_are_text_and_become_what_the_contract_takes(era: str) -> None:
    async with gateway(Writer("writer")) as (url, _), Client(url, mode=era) as client:
        arguments = {"what": "tea", "language": "greek", "times": "3", "rhymes": "true"}
        praise = await client.get_prompt("praise", arguments)
        short = await client.get_prompt("praise", {"what": "tea"})
    assert praise.description == "Words of praise."
    ((role, content),) = [(message.role, message.content) for message in praise.messages]
    assert (role, content) == ("user", TextContent(text="Praise tea in greek 3 times, in rhymes."))
    assert short.messages[0].content == TextContent(text="Praise tea in english 1 times.")


async def test_messages_can_be_texts_images_audio_and_resources_of_both_roles(era: str) -> None:
    async with gateway(Writer("writer")) as (url, _), Client(url, mode=era) as client:
        messages = (await client.get_prompt("talk")).messages
    assert [type(message.content) for message in messages] == [
        TextContent,
        ImageContent,
        AudioContent,
        EmbeddedResource,
        TextContent,
    ]
    assert [message.role for message in messages] == ["user"] * 4 + ["assistant"]


async def test_content_of_porticos_own_is_content_of_messages(era: str) -> None:
    async with gateway(Writer("writer")) as (url, _), Client(url, mode=era) as client:
        drawn = (await client.get_prompt("drawn")).messages
        spoken = (await client.get_prompt("spoken")).messages
        half = await refusal(client, "half")
    assert [type(message.content) for message in drawn] == [TextContent, ImageContent, EmbeddedResource]
    image = drawn[1].content
    assert isinstance(image, ImageContent)
    assert (image.mime_type, b64decode(image.data)) == ("image/png", PIXEL)
    assert [(message.role, type(message.content)) for message in spoken] == [("assistant", AudioContent), ("user", ResourceLink)]
    assert half[2]["slug"] == "invalid-reply"


async def test_what_is_wrong_with_a_prompt_is_said(era: str) -> None:
    async with gateway(Writer("writer")) as (url, _), Client(url, mode=era) as client:
        unknown = await refusal(client, "prais")
        missing = await refusal(client, "praise")
        wrong = await refusal(client, "praise", {"what": "tea", "language": "latin"})
        extra = await refusal(client, "praise", {"what": "tea", "why": "?"})
        bad = await refusal(client, "bad")
    assert unknown[:2] == (INVALID_PARAMS, "There is no prompt 'prais'. Did you mean 'praise'?")
    assert (missing[0], [fault["path"] for fault in missing[2]["errors"]]) == (INVALID_PARAMS, ["/what"])
    assert [fault["path"] for fault in wrong[2]["errors"]] == ["/language"]
    assert [fault["path"] for fault in extra[2]["errors"]] == ["/why"]
    assert (bad[0], bad[2]["slug"]) == (INTERNAL_ERROR, "invalid-reply")


class Other(AgentProcess):
    """Has a prompt of a name that another has too."""

    @prompt
    async def praise(self) -> str:
        return "other"


async def test_of_two_prompts_with_one_name_the_first_has_it(era: str) -> None:
    async with gateway(Writer("writer"), Other("other")) as (url, _), Client(url, mode=era) as client:
        names = [one.name for one in (await client.list_prompts()).prompts]
        said = (await client.get_prompt("other-praise")).messages[0].content
    assert names == ["bad", "both", "drawn", "half", "other-praise", "praise", "spoken", "talk"]
    assert said == TextContent(text="other")


async def test_arguments_are_completed_by_what_their_types_enumerate(era: str) -> None:
    praise = PromptReference(name="praise")
    async with gateway(Writer("writer")) as (url, _), Client(url, mode=era) as client:
        assert await completed(client, praise, "language", "E") == ["english", "estonian"]
        assert await completed(client, praise, "language", "") == ["english", "estonian", "greek"]
        assert await completed(client, praise, "rhymes", "t") == ["true"]
        assert await completed(client, praise, "what", "t") == ["tea", "toast"]
        assert await completed(client, praise, "times", "1") == []
        with pytest.raises(MCPError, match="no prompt 'talks'"):
            await completed(client, PromptReference(name="talks"), "x", "")


async def test_an_operation_of_the_agent_completes_what_it_was_named_for(era: str) -> None:
    page = ResourceTemplateReference(uri="notes://topics/{topic}/{page}")
    async with gateway(Library("library")) as (url, _), Client(url, mode=era) as client:
        assert await completed(client, page, "topic", "te", page="4", other="x") == ["te-4", "te-5"]
        assert await completed(client, page, "page", "") == []
        with pytest.raises(MCPError, match="nothing to read at 'notes://none/"):
            await completed(client, ResourceTemplateReference(uri="notes://none/{x}"), "x", "")


async def test_names_of_agents_and_ones_own_runs_are_completed(era: str) -> None:
    run_of, agent_of = (ResourceTemplateReference(uri=f"portico://{rest}") for rest in ("runs/{run_id}", "agents/{name}"))
    async with gateway(Who("who"), Library("library")) as (url, endpoint):
        dispatcher = endpoint.served.dispatcher
        runs = [await dispatcher.submit(Call(dispatcher.catalogue.find("who"), {}, principal="alice")) for _ in range(120)]
        async with client_as("alice", url, era) as client:
            assert await completed(client, agent_of, "name", "w") == ["who"]
            assert await completed(client, run_of, "run_id", runs[0].run_id) == [runs[0].run_id]
            every = (await client.complete(run_of, {"name": "run_id", "value": ""})).completion
        async with client_as("bob", url, era) as client:
            assert await completed(client, run_of, "run_id", "") == []
    assert (len(every.values), every.total, every.has_more) == (100, 120, True)
