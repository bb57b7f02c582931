"""Members: what each member of a request takes, read from its JSON Schema: for faces that get text or files in place of JSON.

A query, a path and a form have text alone. What the contract calls a number becomes one here, where it looks like one; what does
not stays text, and the contract says what is wrong with it. Above: the HTTP face and its description. Nothing here knows HTTP,
but the names of the media types in which a request of this shape can be written.
"""

from __future__ import annotations

import json
import math
import re
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final, cast

from portico.operations.upload import MARK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"
BINARY: Final = "application/octet-stream"

Reader = "Callable[[str], Any]"
_SCALARS: Final = frozenset({"string", "integer", "number", "boolean", "null"})
_WHOLE: Final = re.compile(r"-?[0-9]{1,300}")
_NUMBER: Final = re.compile(r"-?[0-9]{1,300}(?:\.[0-9]{1,300})?(?:[eE][+-]?[0-9]{1,3})?")
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}


class Members:
    """The members of one request schema.

    Attributes:
        names: those that the schema names; None where it names none, and the payload may be anything.
        about: what the schema says of each of them, in the order in which it names them.
        required: those that cannot be left out.
        open: whether it names none, and yet may be an object.
        whole: whether the request is bytes as a whole.
        lists: those that take a list.
        binary: those that take bytes or an `Upload`, or lists of them.
        media_types: in which forms the request can be written, the plain one first.
        direct: the member that takes a body as it is: the only one of `binary`; None where there are none or several.
    """

    __slots__ = (
        "_definitions",
        "_readers",
        "_uploads",
        "about",
        "binary",
        "direct",
        "lists",
        "media_types",
        "names",
        "open",
        "required",
        "whole",
    )

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._definitions: Mapping[str, Any] = schema.get("$defs", {})
        top = self._resolved(schema)
        properties: Mapping[str, Any] = top.get("properties", {})
        self.about = properties
        self.required: frozenset[str] = frozenset(top.get("required", ()))
        self.names = frozenset(properties) if "properties" in top else None
        self.open = self.names is None and top.get("type", "object") == "object"
        self.whole = any("contentEncoding" in kind for kind in self._kinds(schema))
        kinds = {name: list(self._kinds(about)) for name, about in properties.items()}
        self.lists = frozenset(name for name, found in kinds.items() if any(kind.get("type") == "array" for kind in found))
        self._uploads = frozenset(name for name, found in kinds.items() if self._any(found, lambda kind: MARK in kind))
        encoded = {name for name, found in kinds.items() if self._any(found, lambda kind: "contentEncoding" in kind)}
        self.binary = self._uploads.union(encoded)
        self.direct = next(iter(self.binary)) if len(self.binary) == 1 and not self.binary & self.lists else None
        self._readers: dict[str, Callable[[str], Any]] = {}
        for name, found in kinds.items():
            reader = self._reader([item for kind in found for item in self._items(kind)])
            if reader is not None:
                self._readers[name] = reader
        self.media_types = self._media_types(kinds)

    def read(self, name: str, text: str) -> Any:
        """What a text stands for as the value of a member; the text itself where that is what it takes, or nothing fits."""
        reader = self._readers.get(name)
        return text if reader is None else reader(text)

    def suggestions(self, name: str) -> list[str]:
        """The texts that `read` takes for a member, as far as its type enumerates them or its examples show some."""
        about = self.about.get(name)
        found: list[Any] = []
        for kind in [] if about is None else [about, *self._kinds(about)]:
            for item in self._items(kind):
                found += [*item.get("enum", ()), *([item["const"]] if "const" in item else ()), *item.get("examples", ())]
                found += [True, False] if item.get("type") == "boolean" else []
        texts = (value if isinstance(value, str) else json.dumps(value) for value in found if isinstance(value, str | int | float))
        return list(dict.fromkeys(texts))

    def put(self, into: dict[str, Any], name: str, value: Any) -> None:
        """Add a value that came under a name. Of a member that takes a list every one counts, of others the last."""
        if name in self.lists:
            cast("list[Any]", into.setdefault(name, [])).append(value)
        else:
            into[name] = value

    def encoded(self, name: str, content: bytes, content_type: str | None = None, filename: str | None = None) -> Any:
        """Bytes, or a file, as a member has them in a payload."""
        text = b64encode(content).decode()
        return {"filename": filename, "content_type": content_type, "content": text} if name in self._uploads else text

    def _media_types(self, kinds: Mapping[str, list[Mapping[str, Any]]]) -> list[str]:
        if self.whole:
            return [JSON, BINARY]
        if self.names is None:
            return [JSON]
        flat = all(self._any(found, _scalar) for name, found in kinds.items() if name not in self.binary)
        if self.binary:
            return [JSON, MULTIPART, BINARY] if self.direct is not None else [JSON, MULTIPART]
        return [JSON, FORM, MULTIPART] if flat else [JSON]

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        seen = 0
        while "$ref" in schema and seen < len(self._definitions) + 1:
            schema, seen = self._definitions.get(schema["$ref"].rpartition("/")[2], {}), seen + 1
        return schema

    def _kinds(self, schema: Mapping[str, Any], depth: int = 0) -> Iterator[Mapping[str, Any]]:
        """The alternatives of a schema, without null."""
        found = self._resolved(schema)
        choices = found.get("anyOf") or found.get("oneOf")
        if choices and depth < 5:  # noqa: PLR2004  # unions in unions: nobody writes deeper ones
            for choice in choices:
                yield from self._kinds(choice, depth + 1)
        elif found.get("type") != "null":
            yield found

    def _items(self, kind: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """A kind, or where it is a list the kinds of its items."""
        if kind.get("type") != "array":
            yield kind
        elif isinstance(kind.get("items"), dict):
            yield from self._kinds(kind["items"])

    def _any(self, kinds: list[Mapping[str, Any]], holds: Callable[[Mapping[str, Any]], bool]) -> bool:
        return any(holds(item) for kind in kinds for item in self._items(kind))

    def _reader(self, kinds: list[Mapping[str, Any]]) -> Callable[[str], Any] | None:
        """How a text is read where one of these kinds is wanted; None where text will do."""
        readers = [_reader_of(kind) for kind in kinds]
        known = [reader for reader in readers if reader is not None]
        if not known or len(known) < len(readers):
            return None

        def first_that_fits(text: str) -> Any:
            return next((value for reader in known if (value := reader(text)) is not None), text)

        return first_that_fits


def _scalar(kind: Mapping[str, Any]) -> bool:
    return kind.get("type") in _SCALARS or "enum" in kind or "const" in kind


def _reader_of(kind: Mapping[str, Any]) -> Callable[[str], Any] | None:
    """How a text is read as this kind, with None for one that does not look like it; None where the kind is no such thing."""
    values = kind.get("enum") or ([kind["const"]] if "const" in kind else None)
    if values:
        if any(isinstance(value, str) for value in values):
            return None
        by_text = {json.dumps(value): value for value in values}
        return by_text.get
    return {"integer": _whole, "number": _number, "boolean": _BOOLEANS.get}.get(kind.get("type", ""))


def _whole(text: str) -> int | None:
    return int(text) if _WHOLE.fullmatch(text) else None


def _number(text: str) -> float | None:
    value = float(text) if _NUMBER.fullmatch(text) else math.inf
    return value if math.isfinite(value) else None
