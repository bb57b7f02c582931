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

    __slots__ = ("value", "written")
    value: Any
    """What a plain (unquoted) YAML scalar of this text means: perhaps a number, true, false or null."""
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

    yaml_implicit_resolvers = {}  # noqa: RUF012  # PyYAML's own declaration: rebound, not mutated
    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """Compose one value; refuse what is nested too deep before the stack ends."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            problem = f"mappings and lists are nested more than {MAX_DEPTH} deep"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.peek_event().start_mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


for _kind, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(rf"(?:{_pattern})\Z", re.ASCII), _first)


def _compose(text: str, mistakes: Mistakes) -> Node | None:
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        return cast("Node | None", loader.get_single_node())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        mistakes.stop(f"this is not YAML: {_sentence(error)}.", line=line, column=column)
    except yaml.reader.ReaderError as error:
        at = error.position
        mistakes.stop(f"this is not YAML: the character {error.character!r} is not allowed.", line=text.count("\n", 0, at) + 1)
    except (ValueError, OverflowError):  # PyYAML lets chr() fail on escapes such as "\UFFFFFFFF"
        line = loader.line + 1 if loader else 0
        mistakes.stop("this is not YAML: an escape in a quoted text is not a character.", line=line)


def _sentence(error: yaml.MarkedYAMLError) -> str:
    problem = " ".join((error.problem or "it cannot be parsed").split())
    if "'\\t'" in problem:
        problem += " (indent with spaces, not tabs)"
    return f"{error.context}: {problem}" if error.context else problem


# --- from nodes to data -----------------------------------------------------------------------------------------------


class _Reader:
    def __init__(self, env: Mapping[str, str], mistakes: Mistakes) -> None:
        self._env = env
        self._mistakes = mistakes
        self._values = 0
        self._resolve = _Loader("").resolve

    def document(self, node: Node | None) -> Any:
        return None if node is None else self._value(node, (), 0)

    def copy(self, value: Any, at: Location) -> Any:
        """The value again; containers are new, texts have their variables."""
        self._count(len(at), 0)
        if isinstance(value, dict):
            return {key: self.copy(item, (*at, str(key))) for key, item in cast("dict[Any, Any]", value).items()}
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

    def _mapping(self, node: MappingNode, at: Location, depth: int) -> Any:
        if node.tag != f"{_TAG}map":
            return self._refuse_tag(node, at)
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
                self._mistakes.add((*at, "<<"), "only a mapping, or a list of mappings, can be merged.", line=part.start_mark.line + 1)
                continue
            self._count(depth + 1, part.start_mark.line + 1)
            for key, value in (self._mapping(part, at, depth + 1) or {}).items():
                into.setdefault(key, value)

    def _key(self, node: Node, at: Location) -> str:
        if isinstance(node, ScalarNode) and node.tag == f"{_TAG}str":
            return node.value
        line = node.start_mark.line + 1
        text = str(node.value) if isinstance(node, ScalarNode) else f"<{node.id}>"
        hint = f"write it in quotes: {text!r}." if isinstance(node, ScalarNode) else "not a list or a mapping."
        self._mistakes.add((*at, text), f"a key is a text; {hint}", line=line)
        return text

    def _scalar(self, node: Node, at: Location) -> Any:
        text: str = node.value if isinstance(node, ScalarNode) else ""
        if isinstance(node, SequenceNode) or not node.tag.startswith(_TAG):
            return self._refuse_tag(node, at)
        if node.tag in {f"{_TAG}str", f"{_TAG}merge"}:
            return self._filled(text, at, plain=node.style is None)
        return self._typed(node.tag, text, at)

    def _refuse_tag(self, node: Node, at: Location) -> None:
        tag = node.tag.replace(_TAG, "!!")
        self._mistakes.add(at, f"the tag {tag!r} is not supported: write plain values.", line=node.start_mark.line + 1)

    def _typed(self, tag: str, text: str, at: Location) -> Any:
        kind = tag.removeprefix(_TAG)
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
        if "${" not in text:
            return text
        filled = Substituted(_VARIABLE.sub(lambda match: self._variable(match, text, at), text))
        filled.written = text
        filled.value = str(filled)
        if plain:
            tag: str = self._resolve(ScalarNode, filled.value, (True, False))
            filled.value = filled.value if tag in {f"{_TAG}str", f"{_TAG}merge"} else self._typed(tag, filled.value, at)
        return filled

    def _variable(self, match: re.Match[str], text: str, at: Location) -> str:
        if match[0] == "$${":
            return "${"
        name, default = match[1], match[2]
        if name is None:
            self._mistakes.add(at, f"{shown(text)} is not a variable: write ${{NAME}} or ${{NAME:-default}}; a plain '${{' is '$${{'.")
            return ""
        value = self._env.get(name)
        if default is not None:
            return value or default  # as in a shell, `:-` also replaces an empty value
        if value is None:
            self._mistakes.add(at, f"the environment variable {name} is not set, and has no default (${{{name}:-…}}).")
        return value or ""
