"""What a tool takes: the schema is handed on as it was written, and headers that it names are held against the arguments."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any
from urllib.parse import urlsplit

import pytest
from mcp import Client
from pydantic import Field, WithJsonSchema

from portico.kernel.process import AgentProcess
from portico.operations.decorators import operation
from tests.app.serving import served
from tests.mcp_bridge.helpers import Greeter, gateway

pytestmark = pytest.mark.anyio

WRITTEN: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": {"street": {"type": "string"}}}},
    "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}, "mail": {"type": "string"}},
    "allOf": [{"anyOf": [{"required": ["name"]}, {"required": ["mail"]}]}],
    "if": {"properties": {"name": {"const": "Ada"}}, "required": ["name"]},
    "then": {"required": ["address"]},
    "else": {"required": ["mail"]},
    "additionalProperties": False,
}
Region = Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]


class Book(AgentProcess):
    @operation
    async def enter(self, request: Annotated[dict[str, Any], WithJsonSchema(WRITTEN)]) -> dict[str, Any]:
        return request


class Query(AgentProcess):
    @operation
    async def query(self, region: Region, text: str = "") -> str:
        """Asks in a region."""
        return f"{region}: {text}"


@pytest.mark.parametrize("era", ["2026-07-28", "legacy"])
async def test_a_schema_that_was_written_by_hand_is_handed_on_word_for_word(era: str) -> None:
    async with gateway(Book("book")) as (url, _), Client(url, mode=era) as client:
        tool = (await client.list_tools()).tools[0]
        answer = await client.call_tool("book", {"name": "Ada"})
    assert tool.input_schema == WRITTEN
    assert answer.structured_content == {"name": "Ada"}


async def test_the_document_has_it_too() -> None:
    async with served(Book("book")) as one:
        document = (await one.client.get("/openapi.json")).json()
    body: dict[str, Any] = document["paths"]["/agents/book"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["if"] == WRITTEN["if"]
    assert body["allOf"] == WRITTEN["allOf"]


async def call(url: str, name: str, arguments: dict[str, Any], **headers: str) -> tuple[int, dict[str, Any]]:
    """Call a tool in the new era with exactly these headers: clients tidy them up. Returns the status and the body."""
    capabilities: dict[str, Any] = {}
    meta: dict[str, Any] = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    }
    params: dict[str, Any] = {"name": name, "arguments": arguments, "_meta": meta}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    told = {
        "host": urlsplit(url).netloc,
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": name,
        **headers,
    }
    reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
    writer.write("\r\n".join(["POST /mcp HTTP/1.1", *(f"{key}:{value}" for key, value in told.items()), "", body]).encode())
    head, _, answer = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), json.loads(answer)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"mcp-param-region": "eu"}, 200),
        ({"mcp-param-region": "  eu\t "}, 200),
        ({"mcp-param-region": "=?base64?ZXU=?="}, 200),
        ({"mcp-param-region": "us"}, 400),
        ({"mcp-param-region": "=?base64?!?="}, 400),
        ({}, 400),
    ],
)
async def test_a_header_that_the_schema_names_must_say_what_the_arguments_say(headers: dict[str, str], status: int) -> None:
    async with gateway(Query("query")) as (url, _):
        answered, body = await call(url, "query", {"region": "eu"}, **headers)
    assert answered == status
    assert status == 200 or body["error"]["code"] == -32020


@pytest.mark.parametrize("name", [" greeter", "greeter  ", "\tgreeter\t"])
async def test_whitespace_around_the_value_of_a_header_is_no_part_of_it(name: str) -> None:
    async with gateway(Greeter("greeter")) as (url, _):
        answered, body = await call(url, "greeter", {"name": "Ada"}, **{"mcp-name": name})
    assert answered == 200
    assert body["result"]["structuredContent"] == {"text": "Hello, Ada!"}
