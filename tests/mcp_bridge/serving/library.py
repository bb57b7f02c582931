"""What the tests of resources, prompts and completion share: agents with something to read and something to say. Not a test."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, Field

from portico.errors import AgentError
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.operations.content import Audio, Content, EmbeddedResource, Image, ResourceLink, Text
from portico.operations.decorators import operation, prompt, resource

PIXEL = b"\x89PNG\r\n\x1a\n"


class Language(StrEnum):
    ENGLISH = "english"
    ESTONIAN = "estonian"
    GREEK = "greek"


class Entry(BaseModel):
    topic: str
    page: int


class Library(AgentProcess):
    """Has something to read."""

    @resource("notes://index", title="The index", mime_type="text/markdown")
    async def index(self) -> str:
        """What there is."""
        return "# Notes"

    @resource("notes://cover")
    async def cover(self) -> bytes:
        return PIXEL

    @resource("notes://topics/{topic}/{page}", name="a page", complete={"topic": "topics"})
    async def page(self, topic: str, page: int = 1) -> Entry:
        """One page."""
        if topic == "nothing":
            raise AgentError("no-such-topic", "Nobody wrote about nothing.", status=404)
        if topic == "crash":
            raise RuntimeError("a secret")
        return Entry(topic=topic, page=page)

    @resource("notes://search{?words,limit}")
    async def search(self, words: str = "", limit: int = 10) -> dict[str, Any]:
        return {"words": words, "limit": limit}

    @resource("notes://fresh")
    async def version(self) -> dict[str, int]:
        return {"version": self.state.get("version", 0)}

    @operation
    async def write(self, text: str) -> str:
        """Write something down."""
        self.state["version"] = self.state.get("version", 0) + 1
        self.resource_updated("notes://fresh")
        return text

    @operation
    async def topics(self, value: str, page: int = 0) -> list[str]:
        return [f"{value}-{page}", f"{value}-{number}"] if (number := page + 1) else []


class Writer(AgentProcess):
    """Has words for models."""

    @prompt(title="Praise something")
    async def praise(
        self,
        what: Annotated[str, Field(description="What is to be praised.", examples=["tea", "toast"])],
        language: Language = Language.ENGLISH,
        times: int = 1,
        *,
        rhymes: bool = False,
    ) -> str:
        """Words of praise."""
        return f"Praise {what} in {language.value} {times} times{', in rhymes' if rhymes else ''}."

    @prompt(name="talk", description="A talk.")
    async def conversation(self) -> list[dict[str, Any]]:
        return [
            {"role": "user", "content": "Look:"},
            {"role": "user", "content": {"type": "image", "data": b64encode(PIXEL).decode(), "mimeType": "image/png"}},
            {"role": "user", "content": {"type": "audio", "data": b64encode(b"RIFF").decode(), "mimeType": "audio/wav"}},
            {
                "role": "user",
                "content": {"type": "resource", "resource": {"uri": "notes://index", "mimeType": "text/plain", "text": "# Notes"}},
            },
            {"role": "assistant", "content": "I see."},
        ]

    @prompt
    async def drawn(self) -> list[Content]:
        return [
            Text(text="Look:"),
            Image(data=PIXEL, media_type="image/png"),
            EmbeddedResource(uri="notes://index", text="# Notes", media_type="text/markdown"),
        ]

    @prompt
    async def spoken(self) -> Any:  # as good as no type
        return [
            {"role": "assistant", "content": Audio(data=b"RIFF", media_type="audio/wav")},
            ResourceLink(uri="notes://index", name="index"),
        ]

    @prompt
    async def half(self) -> list[Any]:
        return [{"type": "image", "media_type": "image/png"}]

    @prompt
    async def bad(self) -> list[dict[str, Any]]:
        return [{"role": "nobody", "content": "?"}]

    @prompt
    @operation
    async def both(self) -> str:
        """A prompt, and a tool as well."""
        return "both"


class Waiter(AgentProcess):
    """Has runs that last."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.go = asyncio.Event()

    @operation
    async def serve(self, ctx: Context) -> str:
        ctx.progress(1, 2)
        await self.go.wait()
        return "served"
