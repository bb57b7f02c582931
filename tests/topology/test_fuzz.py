"""Whatever stands in a topology, loading it gives a topology or its mistakes."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.errors import TopologyError
from portico.topology.topology import load, load_text

SOUND = """\
supervision:
  name: top
  strategy: ONE_FOR_ALL
  max_restarts: ${N:-5}
  children:
    - &d {type: dynamic_supervisor, name: d, config: {max_children: 3}}
    - type: supervisor
      name: s
      children: [{<<: *d, name: e}]
routes:
  - {method: post, path: "/chat/{b}", agent: two, operation: two}
server: {port: 80, docs: {enabled: true}, allowed_hosts: [a, b]}
mcp: {servers: [{name: files, command: x, args: [1, "${A}"]}]}
models: {default: scripted, scripted: {rules: [{say: x}]}}
plugins: {models: [{type: openai, config: {}}]}
store: {type: sqlite, path: data, retention: {runs: 30d, payloads: "${A}", size: 2GiB}}
"""
KEYS = [
    *("supervision", "supervisor", "children", "agent", "name", "type", "class", "module", "config", "strategy", "routes", "path"),
    *(
        "server",
        "port",
        "docs",
        "transport",
        "mcp",
        "servers",
        "models",
        "prices",
        "plugins",
        "default",
        "store",
        "retention",
        "runs",
        "size",
        "NestedAgent",
        "[key]",
        "<<",
        "",
    ),
]
WORDS = [
    *(f"{key}: " for key in KEYS),
    *("- ", "{", "}", "[", "]", ", ", ": ", "? ", "'", '"', "|", ">", "#", "\n", "\n  ", "\n    "),
    *("\t", "---\n", "...\n", "%YAML 1.1\n"),
    *("&a ", "*a", "*d", "<<: ", "!x ", "!!str ", "!!int ", "!!float ", "!!bool ", "!!binary "),
    *("!!set ", "!!python/object:os.system "),
    *("x", "1", "-1", "0x", "1e999", ".nan", "true", "null", "~", "${A}", "${A:-5}", "${", "$${"),
    *("\\U", "FFFFFFFF", "\\uD800", "\x00", "\ud800", "é"),
]

words = st.sampled_from(WORDS)
texts = st.text() | st.lists(words).map("".join) | st.lists(words | st.text(max_size=3)).map("".join)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(KEYS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=5),
)


def never_anything_else(text: str) -> None:
    with suppress(TopologyError):
        load_text(text, env={"A": "7"})


@given(texts)
def test_any_text_loads_or_is_refused_with_its_mistakes(text: str) -> None:
    never_anything_else(text)


@given(st.data())
def test_a_sound_text_with_some_words_changed_loads_or_is_refused(data: st.DataObject) -> None:
    text = SOUND
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        text = text[:start] + data.draw(words) + text[start + data.draw(st.integers(0, 12)) :]
    never_anything_else(text)


@given(
    st.dictionaries(
        st.sampled_from(["supervision", "routes", "server", "mcp", "models", "prices", "plugins", "transport", "store"]), values
    )
)
def test_any_mapping_loads_or_is_refused_with_its_mistakes(document: dict[str, Any]) -> None:
    with suppress(TopologyError):
        load(document)


def test_the_sound_text_is_sound_but_for_its_route() -> None:
    with pytest.raises(TopologyError) as caught:
        load_text(SOUND, env={"A": "7"})
    assert [line.split(": ")[1] for line in caught.value.mistakes] == ["routes[0].agent", "plugins.models"]
