"""A small MCP server over stdio: lists, searches and reads the text files of a folder. `python library_server.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "library").resolve()

READS = ToolAnnotations(read_only_hint=True)
"""What only reads may be called again when the connection broke."""

server = MCPServer("library", log_level="ERROR")


@server.tool(annotations=READS)
def list_documents() -> list[str]:
    """The names of the documents in the library."""
    return sorted(path.name for path in FOLDER.glob("*.md"))


@server.tool(annotations=READS)
def read_document(name: str) -> str:
    """The text of one document."""
    path = (FOLDER / name).resolve()
    if path.parent != FOLDER or not path.is_file():
        raise ToolError(f"There is no document {name!r}. There are: {', '.join(list_documents())}.")
    return path.read_text(encoding="utf-8")


@server.tool(annotations=READS)
def search_documents(words: str) -> str:
    """The paragraph that has most of the words, with the name of its document."""
    wanted = {word.strip("?!.,;:'\"").lower() for word in words.split()}
    wanted = {word for word in wanted if len(word) > 2}  # noqa: PLR2004  # articles and prepositions say nothing
    best, place = 0, "No document says anything about that."
    for name in list_documents():
        for paragraph in read_document(name).split("\n\n"):
            text = " ".join(paragraph.split())
            hits = sum(word in text.lower() for word in wanted)
            if hits > best:
                best, place = hits, f"{text} ({name})"
    return place


if __name__ == "__main__":
    server.run("stdio")
