"""The agents that the conformance suite of MCP wants to find: ordinary ones. `topology.yaml` gives their tools the suite's names.

What each has to do is said in the suite itself, scenario by scenario.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from typing import Annotated, Any

from pydantic import BaseModel, Field, WithJsonSchema

from portico.errors import AgentError
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.kernel.questions import Question
from portico.operations.content import Audio, Content, EmbeddedResource, Image, Text
from portico.operations.decorators import operation, prompt, resource

PIXEL = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==")
SILENCE = b64decode("UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA=")

NAME = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
OK = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
COLOUR = {"type": "object", "properties": {"color": {"type": "string"}}, "required": ["color"]}
CONTEXT = {"type": "object", "properties": {"context": {"type": "string"}}, "required": ["context"]}
USER = {
    "type": "object",
    "properties": {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    },
    "required": ["username", "email"],
}
DEFAULTS = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    },
}
ENUMS = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
        "titledSingle": {
            "type": "string",
            "oneOf": [{"const": f"value{n}", "title": f"{word} Option"} for n, word in ((1, "First"), (2, "Second"), (3, "Third"))],
        },
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
        "titledMulti": {
            "type": "array",
            "items": {
                "anyOf": [{"const": f"value{n}", "title": f"{w} Choice"} for n, w in ((1, "First"), (2, "Second"), (3, "Third"))]
            },
        },
    },
}
RICH_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
CAPITAL = Question.sample("What is the capital of France?", max_tokens=100)


class Contents(AgentProcess):
    """Tools that return every kind of content."""

    @operation
    async def text(self) -> list[Content]:
        """Text."""
        return [Text(text="This is a simple text response for testing.")]

    @operation
    async def image(self) -> list[Content]:
        """Image."""
        return [Image(data=PIXEL, media_type="image/png")]

    @operation
    async def audio(self) -> list[Content]:
        """Audio."""
        return [Audio(data=SILENCE, media_type="audio/wav")]

    @operation
    async def embedded(self) -> list[Content]:
        """Embedded."""
        return [
            EmbeddedResource(uri="test://embedded-resource", text="This is an embedded resource content.", media_type="text/plain")
        ]

    @operation
    async def mixed(self) -> list[Content]:
        """Mixed."""
        return [
            Text(text="Multiple content types test:"),
            Image(data=PIXEL, media_type="image/png"),
            EmbeddedResource(
                uri="test://mixed-content-resource", text='{"test":"data","value":123}', media_type="application/json"
            ),
        ]

    @operation(errors={"intended": 400})
    async def failing(self) -> str:
        """Failing."""
        raise AgentError("intended", "This tool intentionally returns an error for testing")

    @operation
    async def rich_schema(self, request: Annotated[dict[str, Any], WithJsonSchema(RICH_SCHEMA)]) -> dict[str, Any]:
        """Tool with JSON Schema 2020-12 features"""
        return request


class Region(BaseModel):
    """Where something is to be done."""

    region: str = Field(json_schema_extra={"x-mcp-header": "Region"})
    query: str = ""


class Telling(AgentProcess):
    """Tools that tell something while they work."""

    @operation
    async def logging(self, ctx: Context) -> str:
        """Logging."""
        for text in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            ctx.log("info", text)
            await asyncio.sleep(0.05)
        return "The tool has told three things."

    @operation
    async def logging_once(self, ctx: Context) -> str:
        """Logging once."""
        ctx.log("info", "Nobody asked for this.")
        return "The tool has told something."

    @operation
    async def progress(self, ctx: Context) -> str:
        """Progress."""
        for done in (0, 50, 100):
            ctx.progress(done, 100)
            await asyncio.sleep(0.05)
        return "The tool has told its progress three times."

    @operation
    async def by_header(self, request: Region) -> str:
        """By header."""
        return f"{request.region}: {request.query}"


class Asking(AgentProcess):
    """Tools that ask their client something."""

    @operation
    async def sampling(self, prompt: str, ctx: Context) -> str:
        """Sampling."""
        answer = await ctx.sample(prompt, max_tokens=100)
        return f"LLM response: {answer['content']['text']}"

    @operation
    async def elicitation(self, message: str, ctx: Context) -> str:
        """Elicitation."""
        return f"User response: action=accept, content={await ctx.wait_input(message, USER)}"

    @operation
    async def defaults(self, ctx: Context) -> str:
        """Defaults."""
        answer = await ctx.wait_input("Please review these settings", DEFAULTS)
        return f"Elicitation completed: action=accept, content={answer}"

    @operation
    async def enums(self, ctx: Context) -> str:
        """Enums."""
        return f"Elicitation completed: action=accept, content={await ctx.wait_input('Please choose', ENUMS)}"

    @operation
    async def missing_capability(self, ctx: Context) -> str:
        """Missing capability."""
        return str(await ctx.sample("Does your client have a model?"))

    @operation
    async def streaming_elicitation(self, ctx: Context) -> str:
        """Streaming elicitation."""
        ctx.progress(1, 2)
        return str(await ctx.wait_inputs({"user_name": Question.input("What is your name?", NAME)}))

    @operation
    async def whose_name(self, ctx: Context) -> str:
        """Whose name."""
        answers = await ctx.wait_inputs({"user_name": Question.input("What is your name?", NAME)})
        return f"Hello, {answers['user_name']['name']}!"

    @operation
    async def capital(self, ctx: Context) -> str:
        """Capital."""
        return (await ctx.wait_inputs({"capital_question": CAPITAL}))["capital_question"]["content"]["text"]

    @operation
    async def roots(self, ctx: Context) -> str:
        """Roots."""
        answers = await ctx.wait_inputs({"client_roots": Question.roots()})
        return ", ".join(root["uri"] for root in answers["client_roots"]["roots"])

    @operation
    async def confirm(self, ctx: Context) -> str:
        """Confirm."""
        answers = await ctx.wait_inputs({"confirm": Question.input("Please confirm", OK)})
        return f"state-ok: {answers['confirm']['ok']}"

    @operation
    async def tampered(self, ctx: Context) -> str:
        """Tampered."""
        return str(await ctx.wait_inputs({"confirm": Question.input("Please confirm", OK)}))

    @operation
    async def several(self, ctx: Context) -> str:
        """Several."""
        answers = await ctx.wait_inputs(
            {
                "user_name": Question.input("What is your name?", NAME),
                "greeting": Question.sample("Generate a greeting", max_tokens=50),
                "client_roots": Question.roots(),
            }
        )
        return str(answers)

    @operation
    async def rounds(self, ctx: Context) -> str:
        """Rounds."""
        first = await ctx.wait_inputs({"step1": Question.input("Step 1: What is your name?", NAME)})
        second = await ctx.wait_inputs({"step2": Question.input("Step 2: What is your favorite color?", COLOUR)})
        return f"{first['step1']['name']} likes {second['step2']['color']}."

    @operation
    async def what_it_can(self, ctx: Context) -> str:
        """What it can."""
        asked = {
            "user_name": ("input", Question.input("What is your name?", NAME)),
            "capital_question": ("sample", CAPITAL),
            "client_roots": ("roots", Question.roots()),
        }
        return str(await ctx.wait_inputs({key: question for key, (kind, question) in asked.items() if ctx.can_ask(kind)}))


class Working(AgentProcess):
    """Tools that are tasks."""

    @operation(task=False)
    async def greet(self, name: str) -> str:
        """Greet."""
        return f"Hello, {name}!"

    @operation(task=True)
    async def compute(self, seconds: float = 1.0, label: str = "") -> str:
        """Compute."""
        await asyncio.sleep(seconds)
        return f"Computed for {seconds:g} s: {label}"

    @operation(task="required", errors={"intended": 400})
    async def fail(self) -> str:
        """Fail."""
        await asyncio.sleep(1)
        raise AgentError("intended", "The job has failed, as it always does.")

    @operation(task=True, idempotent=False)
    async def crash(self) -> str:
        """Crash."""
        raise RuntimeError("as intended")

    @operation(task=True)
    async def delete(self, filename: str, ctx: Context) -> str:
        """Delete."""
        answers = await ctx.wait_inputs(
            {
                "confirm": Question.input(
                    f"Delete {filename}?",
                    {
                        "type": "object",
                        "properties": {"confirm": {"type": "boolean"}},
                        "required": ["confirm"],
                    },
                )
            }
        )
        return f"{filename}: {answers['confirm']}"

    @operation(task=True)
    async def two_inputs(self, ctx: Context) -> str:
        """Two inputs."""
        one = {"type": "object", "properties": {"value": {"type": "string"}}}
        return str(
            await ctx.wait_inputs({"first": Question.input("The first?", one), "second": Question.input("The second?", one)})
        )

    @operation
    async def input_then_task(self, ctx: Context) -> str:
        """Input then task."""
        answers = await ctx.wait_inputs({"user_name": Question.input("What is your name?", NAME)})
        await asyncio.sleep(6)  # longer than `mcp_task_after`
        return f"Done for {answers['user_name']['name']}."


class Library(AgentProcess):
    """Resources and prompts."""

    @resource("test://static-text", mime_type="text/plain")
    async def static_text(self) -> str:
        return "This is the content of the static text resource."

    @resource("test://static-binary", mime_type="image/png")
    async def static_binary(self) -> bytes:
        return PIXEL

    @resource("test://watched-resource", mime_type="text/plain")
    async def watched(self) -> str:
        return "Watched."

    @resource("test://template/{id}/data", mime_type="application/json")
    async def template(self, id: str) -> dict[str, Any]:  # noqa: A002  # the suite's name for it
        return {"id": id, "templateTest": True, "data": f"Data for ID: {id}"}

    @prompt(name="test_simple_prompt")
    async def simple(self) -> str:
        """A prompt without arguments."""
        return "This is a simple prompt for testing."

    @prompt(name="test_prompt_with_arguments")
    async def with_arguments(self, arg1: str, arg2: str) -> str:
        """A prompt with two arguments."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @prompt(name="test_prompt_with_embedded_resource")
    async def with_resource(self, resourceUri: str) -> list[dict[str, Any]]:  # noqa: N803  # the suite's name for it
        """A prompt with a resource in it."""
        embedded = {"uri": resourceUri, "mimeType": "text/plain", "text": "Embedded resource content for testing."}
        return [
            {"role": "user", "content": {"type": "resource", "resource": embedded}},
            {"role": "user", "content": {"type": "text", "text": "Please process the embedded resource above."}},
        ]

    @prompt(name="test_prompt_with_image")
    async def with_image(self) -> list[dict[str, Any]]:
        """A prompt with an image in it."""
        return [
            {"role": "user", "content": {"type": "image", "data": b64encode(PIXEL).decode(), "mimeType": "image/png"}},
            {"role": "user", "content": {"type": "text", "text": "Please analyze the image above."}},
        ]

    @prompt(name="test_input_required_result_prompt")
    async def with_input(self, ctx: Context) -> str:
        """A prompt that asks for its context."""
        answers = await ctx.wait_inputs({"user_context": Question.input("What context should the prompt use?", CONTEXT)})
        return f"The context is: {answers['user_context']['context']}"


class Extra(AgentProcess):
    """Comes and goes."""

    @operation
    async def extra(self) -> str:
        """Extra."""
        return "I am here for a moment."


class ExtraPrompt(AgentProcess):
    """Comes and goes."""

    @prompt
    async def extra_prompt(self) -> str:
        """A prompt for a moment."""
        return "I am here for a moment."


class Changing(AgentProcess):
    """Changes what is listed."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.count = 0
        self.there: dict[type[AgentProcess], str] = {}

    @operation
    async def other_tools(self) -> str:
        """Other tools."""
        return await self._come_and_go(Extra)

    @operation
    async def other_prompts(self) -> str:
        """Other prompts."""
        return await self._come_and_go(ExtraPrompt)

    async def _come_and_go(self, kind: type[AgentProcess]) -> str:
        if kind in self.there:
            await self.despawn(self.there.pop(kind))
            return "Somebody went."
        self.count += 1
        self.there[kind] = await self.spawn(kind, f"extra-{self.count}")
        return "Somebody came."
