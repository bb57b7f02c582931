"""Source: a YAML file, or a mapping, as plain data, with the line of every location.

Reads YAML 1.2's core schema through PyYAML's composer: text, numbers, true, false, null, lists, mappings, nothing else (`yes`,
`on` and `1:30` are text). Puts in environment variables: `${NAME}`, `${NAME:-default}`; `$${` is a plain `${`.
It knows neither the schema nor the process's environment: it is given the variables.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from portico.topology.mistakes import Location, Mistakes, shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_BYTES = 1024 * 1024
"""The longest topology file that is read."""
MAX_DEPTH = 64
"""How deep mappings and lists may be nested."""
MAX_VALUES = 50_000
"""How many values a document may have once its aliases are expanded."""

_TAG = "tag:yaml.org,2002:"
_VARIABLE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}|\$\{")


class Substituted(str):
    """A text into which environment variables were put. It may be a secret, so mistakes quote it as it was `written`."""

    __slots__ = ("quoted", "value", "written")
    quoted: bool
    """Whether it stands in quotes."""
    value: Any
    """What a plain YAML scalar of this text means: perhaps a number, true, false or null."""
    written: str
    """What stands in the file, such as `${PORT}`."""


def read(path: Path, env: Mapping[str, str], mistakes: Mistakes) -> Any:
    """The data of a YAML file. Raises `TopologyError` where it cannot be read or is not YAML; other mistakes are collected."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        mistakes.stop(f"the file cannot be read: {getattr(error, 'strerror', None) or error}.")
    try:
        return parse(content.decode("utf-8-sig"), env, mistakes)
    except UnicodeDecodeError as error:
        mistakes.stop(f"byte {error.start} is not valid UTF-8.", line=content.count(b"\n", 0, error.start) + 1)


def parse(text: str, env: Mapping[str, str], mistakes: Mistakes) -> Any:
    """The data of a YAML text. Raises `TopologyError` where it is not YAML; other mistakes are collected."""
    if len(text) > MAX_BYTES:
        mistakes.stop(f"the file is longer than {MAX_BYTES // 1024} KiB.")
    return _Reader(env, mistakes).document(_compose(text, mistakes))


def adopt(data: Mapping[str, Any], env: Mapping[str, str], mistakes: Mistakes) -> Any:
    """The same for data that is there already: a copy, with the variables put in."""
    return _Reader(env, mistakes).copy(data, ())


# --- from text to nodes -----------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with the core schema's scalars and a limit on nesting. Its constructors are not used."""

    depth = 0

    def resolve(self, kind: type[Node], value: Any, implicit: Any) -> str:
        """The tag of a value that has none."""
        if kind is ScalarNode:
            return _TAG + (_kind_of(value) if implicit[0] else "str")
        return f"{_TAG}map" if kind is MappingNode else f"{_TAG}seq"

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """Compose one value; refuse what is nested too deep before the stack ends."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            problem = f"mappings and lists are nested more than {MAX_DEPTH} deep"
            here: Any = self
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=here.peek_event().start_mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def _kind_of(text: str) -> str:
    """What a plain scalar is, by YAML 1.2's core schema."""
    return next((kind for kind, pattern in _KINDS if pattern.fullmatch(text)), "str")


_KINDS = tuple(
    (kind, re.compile(pattern, re.ASCII))
    for kind, pattern in (
        ("null", r"~|null|Null|NULL|"),
        ("bool", r"true|True|TRUE|false|False|FALSE"),
        ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
        ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"),
        ("merge", r"<<"),
    )
)


def _compose(text: str, mistakes: Mistakes) -> Node | None:
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        mistakes.stop(f"this is not YAML: {_sentence(error)}.", line=line, column=column)
    except yaml.reader.ReaderError as error:
        at = error.position
        line = text.count("\n", 0, at) + 1
        mistakes.stop(f"this is not YAML: the character U+{ord(text[at]):04X} is not allowed.", line=line)
    except (ValueError, OverflowError):  # PyYAML lets chr() fail on escapes such as "\UFFFFFFFF"
        line = loader.line + 1 if loader else 0
        mistakes.stop("this is not YAML: an escape in a quoted text is not a character.", line=line)


def _sentence(error: yaml.MarkedYAMLError) -> str:
    problem = " ".join((error.problem or "it cannot be parsed").split())
    if problem.endswith("but got '{'"):
        problem += " (inside of braces and brackets, put ${…} in quotes)"
    if "'\\t'" in problem:
        problem += " (indent with spaces, not tabs)"
    return f"{error.context}: {problem}" if error.context else problem


def _is_unicode(text: str) -> bool:
    """False for lone surrogates, which an escape in a quoted text can make."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


# --- from nodes to data -----------------------------------------------------------------------------------------------


class _Reader:
    def __init__(self, env: Mapping[str, str], mistakes: Mistakes) -> None:
        self._env = env
        self._mistakes = mistakes
        self._values = 0

    def document(self, node: Node | None) -> Any:
        return None if node is None else self._value(node, (), 0)

    def copy(self, value: Any, at: Location) -> Any:
        """The value again; containers are new, texts have their variables."""
        self._count(len(at), 0)
        if isinstance(value, dict):
            return {self._text(key, at): self.copy(item, (*at, str(key))) for key, item in cast("dict[Any, Any]", value).items()}
        if isinstance(value, (list, tuple)):
            return [self.copy(item, (*at, index)) for index, item in enumerate(cast("list[Any]", value))]
        return self._filled(value, at, plain=True) if isinstance(value, str) else value

    def _value(self, node: Node, at: Location, depth: int) -> Any:
        line = node.start_mark.line + 1
        self._count(depth, line)
        self._mistakes.lines.setdefault(at, line)
        if isinstance(node, MappingNode):
            return self._mapping(node, at, depth)
        if isinstance(node, SequenceNode) and node.tag == f"{_TAG}seq":
            return [self._value(item, (*at, index), depth + 1) for index, item in enumerate(node.value)]
        return self._scalar(node, at)

    def _count(self, depth: int, line: int) -> None:
        """Aliases can multiply what a short file says, or refer to what they stand in."""
        self._values += 1
        if self._values > MAX_VALUES:
            self._mistakes.stop(f"there are more than {MAX_VALUES} values, aliases expanded.", line=line)
        if depth > MAX_DEPTH:
            self._mistakes.stop(f"mappings and lists are nested more than {MAX_DEPTH} deep, aliases expanded.", line=line)

    def _mapping(self, node: MappingNode, at: Location, depth: int) -> dict[str, Any]:
        if node.tag != f"{_TAG}map":
            self._refuse_tag(node, at)
            return {}
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                self._merge(value_node, at, depth, into=merged)
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                continue
            key, line = self._key(key_node, at), key_node.start_mark.line + 1
            if key in own:
                sentence = f"the key stands twice in this mapping (the first time on line {first[key]})."
                self._mistakes.add((*at, key), sentence, line=line)
                continue
            first[key] = self._mistakes.lines[*at, key] = line
            own[key] = self._value(value_node, (*at, key), depth + 1)
        return merged | own

    def _merge(self, node: Node, at: Location, depth: int, *, into: dict[str, Any]) -> None:
        for part in node.value if isinstance(node, SequenceNode) else [node]:
            if not isinstance(part, MappingNode):
                self._mistakes.add(
                    (*at, "<<"), "only a mapping, or a list of mappings, can be merged.", line=part.start_mark.line + 1
                )
                continue
            self._count(depth + 1, part.start_mark.line + 1)
            into.update({**self._mapping(part, at, depth + 1), **into})

    def _key(self, node: Node, at: Location) -> str:
        line = node.start_mark.line + 1
        if not isinstance(node, ScalarNode):
            self._mistakes.add((*at, "?"), "a key is a text, not a list or a mapping.", line=line)
            return "?"
        text: str = node.value
        if node.tag != f"{_TAG}str":
            self._mistakes.add((*at, text), f"a key is a text; write it in quotes: {text!r}.", line=line)
        return self._text(text, at)

    def _text(self, key: Any, at: Location) -> str:
        """A key that every part of the program can print."""
        if not isinstance(key, str):
            self._mistakes.add((*at, str(key)), f"a key is a text, not {shown(key)}.")
        elif not _is_unicode(key):
            self._mistakes.add((*at, ascii(key)), "the key is not valid Unicode.")
        else:
            return key
        return ascii(key)

    def _scalar(self, node: Node, at: Location) -> Any:
        if not isinstance(node, ScalarNode):
            self._refuse_tag(node, at)
            return None
        text, style = str(node.value), cast("Any", node).style
        if node.tag in {f"{_TAG}str", f"{_TAG}merge"}:
            return self._filled(text, at, plain=style is None)
        if node.tag.removeprefix(_TAG) not in {"null", "bool", "int", "float"}:
            self._refuse_tag(node, at)
            return None
        return self._typed(node.tag.removeprefix(_TAG), text, at)

    def _refuse_tag(self, node: Node, at: Location) -> None:
        tag = node.tag.replace(_TAG, "!!")
        self._mistakes.add(at, f"the tag {tag!r} is not supported: write plain values.", line=node.start_mark.line + 1)

    def _typed(self, kind: str, text: str, at: Location) -> Any:
        with suppress(ValueError, KeyError):
            if kind == "null":
                return None
            if kind == "bool":
                return {"true": True, "false": False}[text.lower()]
            if kind == "int":
                return int(text, 0) if text[:2] in {"0o", "0x"} else int(text)
            if kind == "float":
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        self._mistakes.add(at, f"{shown(text)} is not a value of the kind '!!{kind}'.")
        return None

    # --- environment variables ----------------------------------------------------------------------------------------

    def _filled(self, text: str, at: Location, *, plain: bool) -> str:
        if not _is_unicode(text):
            self._mistakes.add(at, f"{text!a} is not valid Unicode.")
            return ascii(text)
        if "${" not in text:
            return text
        filled = Substituted(_VARIABLE.sub(lambda match: self._variable(match, text, at), text))
        kind = _kind_of(filled)
        filled.written, filled.quoted = text, not plain
        filled.value = str(filled) if kind in {"str", "merge"} else self._typed(kind, filled, at)
        return filled

    def _variable(self, match: re.Match[str], text: str, at: Location) -> str:
        if match[0] == "$${":
            return "${"
        name, default = match[1], match[2]
        if name is None:
            self._mistakes.add(
                at, f"{shown(text)} is not a variable: write ${{NAME}} or ${{NAME:-default}}; a plain '${{' is '$${{'."
            )
            return ""
        value = self._env.get(name)
        if default is not None:
            return value or default  # as in a shell, `:-` also replaces an empty value
        if value is None:
            self._mistakes.add(at, f"the environment variable {name} is not set, and has no default (${{{name}:-…}}).")
        return value or ""
