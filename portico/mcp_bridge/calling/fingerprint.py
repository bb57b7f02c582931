"""Fingerprint: one hash over everything that a tool says of itself, for pins. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mcp.types import Tool

PREFIX: Final = "sha256:"


def definition_of(tool: Tool) -> dict[str, Any]:
    """What a tool says of itself, as far as a model or a person decides by it: name, texts, schemas, annotations."""
    said = tool.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {key: said[key] for key in ("name", "title", "description", "inputSchema", "outputSchema", "annotations") if key in said}


def fingerprint(definition: dict[str, Any]) -> str:
    """`sha256:` and the digest of its canonical JSON (keys sorted, no blanks)."""
    text = json.dumps(definition, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return PREFIX + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
