# ruff: noqa: E501  # a line that is expected is written as one line

from __future__ import annotations

import math
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from portico.errors import TopologyError
from portico.topology import source
from portico.topology.mistakes import Mistakes, dotted


def parse(text: str, **env: str) -> Any:
    mistakes = Mistakes("t.yaml")
    data = source.parse(dedent(text), env, mistakes)
    mistakes.check()
    return data


def refusals(text: str, **env: str) -> list[str]:
    with pytest.raises(TopologyError) as caught:
        parse(text, **env)
    return caught.value.mistakes


def test_yaml_becomes_plain_data_by_the_core_schema() -> None:
    text = "[a, 'b', 1, -2, 0x1F, 0o17, 1.5, 1e3, .5, true, False, null, ~, '', yes, on, 1:30, 2024-01-01, 012, !!str 5]"
    expected = ["a", "b", 1, -2, 31, 15, 1.5, 1000.0, 0.5, True, False, None, None, "", "yes", "on", "1:30", "2024-01-01", 12, "5"]
    assert parse(text) == expected


def test_infinity_and_not_a_number_are_numbers() -> None:
    data = parse("[.inf, -.INF, .nan]")
    assert data[:2] == [math.inf, -math.inf]
    assert math.isnan(data[2])


def test_every_location_has_its_line() -> None:
    mistakes = Mistakes("t.yaml")
    source.parse("a:\n  b:\n    - x\n    -\n      c: 1\n", {}, mistakes)
    assert mistakes.lines == {(): 1, ("a",): 1, ("a", "b"): 2, ("a", "b", 0): 3, ("a", "b", 1): 5, ("a", "b", 1, "c"): 5}


def test_anchors_and_merge_keys_are_expanded_and_own_keys_win() -> None:
    text = """
        base: &base {a: 1, b: 2}
        other: &other {b: 3, c: 4}
        one: {<<: *base, b: 9}
        two: {<<: [*base, *other], d: 5}
        same: *base
    """
    data = parse(text)
    assert data["one"] == {"a": 1, "b": 9}
    assert data["two"] == {"a": 1, "b": 2, "c": 4, "d": 5}
    assert data["same"] == data["base"]


def test_an_empty_document_is_nothing() -> None:
    assert parse("") is None
    assert parse("# only a comment") is None


# --- variables --------------------------------------------------------------------------------------------------------


def test_variables_are_put_into_texts() -> None:
    data = parse("a: http://${HOST}:${PORT:-80}/x\nb: '${HOST}'\nc: $${HOST}\nd: $HOST", HOST="h")
    assert data == {"a": "http://h:80/x", "b": "h", "c": "${HOST}", "d": "$HOST"}


def test_a_default_stands_in_for_a_missing_and_for_an_empty_variable() -> None:
    assert parse('["${A:-x}", "${B:-y}", "${A:-}"]', B="") == ["x", "y", ""]


def test_a_text_with_variables_keeps_its_text_and_what_that_would_mean() -> None:
    data = parse("plain: ${N}\nquoted: '${N}'\nempty: ${E:-}\nflag: ${F}", N="5", F="true")
    assert [data[key].value for key in ("plain", "quoted", "empty", "flag")] == [5, 5, None, True]
    assert [data[key].quoted for key in ("plain", "quoted", "empty", "flag")] == [False, True, False, False]
    assert data["plain"] == "5"


def test_variables_are_put_into_a_mapping_that_is_there_already() -> None:
    mistakes = Mistakes("topology")
    given = {"a": ["${X}"], "b": 5}
    assert source.adopt(given, {"X": "1"}, mistakes) == {"a": ["1"], "b": 5}
    assert given == {"a": ["${X}"], "b": 5}


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\na: 2", ["t.yaml:2: a: the key stands twice in this mapping (the first time on line 1)."]),
        ("a: {b: 1,\n  b: 2}", ["t.yaml:2: a.b: the key stands twice in this mapping (the first time on line 1)."]),
        ("1: x", ["t.yaml:1: ['1']: a key is a text; write it in quotes: '1'."]),
        ("[a]: x", ["t.yaml:1: ['?']: a key is a text, not a list or a mapping."]),
        ("a: ${NO}", ["t.yaml:1: a: the environment variable NO is not set, and has no default (${NO:-…})."]),
        ("\na: ['${']", ["t.yaml:2: a[0]: '${' is not a variable: write ${NAME} or ${NAME:-default}; a plain '${' is '$${'."]),
        ("a: ${1X}", ["t.yaml:1: a: '${1X}' is not a variable: write ${NAME} or ${NAME:-default}; a plain '${' is '$${'."]),
        ("a: !!python/name:os.system x", ["t.yaml:1: a: the tag '!!python/name:os.system' is not supported: write plain values."]),
        ("a: !mine x", ["t.yaml:1: a: the tag '!mine' is not supported: write plain values."]),
        ("a: !!set {x}", ["t.yaml:1: a: the tag '!!set' is not supported: write plain values."]),
        ("a: !!omap [x: 1]", ["t.yaml:1: a: the tag '!!omap' is not supported: write plain values."]),
        ("a: !!binary aGk=", ["t.yaml:1: a: the tag '!!binary' is not supported: write plain values."]),
        ("a: !!int x", ["t.yaml:1: a: 'x' is not a value of the kind '!!int'."]),
        ('a: "\\uD800"', ["t.yaml:1: a: '\\ud800' is not valid Unicode."]),
        ("a: {<<: 5}", ["t.yaml:1: a['<<']: only a mapping, or a list of mappings, can be merged."]),
        ("a: [1", ["t.yaml:1:6: this is not YAML: while parsing a flow sequence: expected ',' or ']', but got '<stream end>'."]),
        (
            "a:\n\tb: 2",
            [
                "t.yaml:2:1: this is not YAML: while scanning for the next token: found character '\\t' that cannot start any token (indent with spaces, not tabs)."
            ],
        ),
        (
            "a: {b: ${C}}",
            [
                "t.yaml:1:9: this is not YAML: while parsing a flow mapping: expected ',' or '}', but got '{' (inside of braces and brackets, put ${…} in quotes)."
            ],
        ),
        ("a: *b", ["t.yaml:1:4: this is not YAML: found undefined alias 'b'."]),
        (
            "a: 1\n---\nb: 2",
            ["t.yaml:2:1: this is not YAML: expected a single document in the stream: but found another document."],
        ),
        ("a: 1\nb: x\x00", ["t.yaml:2: this is not YAML: the character U+0000 is not allowed."]),
        ('a: 1\nb: "\\UFFFFFFFF"', ["t.yaml:2: this is not YAML: an escape in a quoted text is not a character."]),
    ],
)
def test_a_mistake_names_line_path_and_value(text: str, expected: list[str]) -> None:
    assert refusals(text) == expected


def test_all_mistakes_are_told_in_the_order_of_their_lines() -> None:
    assert refusals("a: ${X}\nb: 1\nb: 2\nc: !x y\n") == [
        "t.yaml:1: a: the environment variable X is not set, and has no default (${X:-…}).",
        "t.yaml:3: b: the key stands twice in this mapping (the first time on line 2).",
        "t.yaml:4: c: the tag '!x' is not supported: write plain values.",
    ]


def test_an_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert refusals("\n".join(lines)) == ["t.yaml:1: there are more than 50000 values, aliases expanded."]


def test_an_alias_within_what_it_stands_for_is_refused() -> None:
    assert refusals("a: &a [*a]") == ["t.yaml:1: mappings and lists are nested more than 64 deep, aliases expanded."]
    assert refusals("a: &a {<<: *a}") == ["t.yaml:1: mappings and lists are nested more than 64 deep, aliases expanded."]


def test_deep_nesting_is_refused() -> None:
    assert refusals("[" * 100_000) == ["t.yaml:1:65: this is not YAML: mappings and lists are nested more than 64 deep."]


def test_deep_data_is_refused() -> None:
    data: dict[str, Any] = {}
    data["a"] = data
    mistakes = Mistakes("topology")
    with pytest.raises(TopologyError, match="nested more than 64 deep"):
        source.adopt(data, {}, mistakes)


def test_a_huge_file_is_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(10 * 1024**3)
    with pytest.raises(TopologyError) as caught:
        source.read(path, {}, Mistakes("huge.yaml"))
    assert caught.value.mistakes == ["huge.yaml: the file is longer than 1024 KiB."]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "t.yaml: the file cannot be read: No such file or directory."),
        (b"a: 1\nb: \xff", "t.yaml:2: byte 8 is not valid UTF-8."),
    ],
)
def test_a_file_that_cannot_be_read_is_a_mistake(tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = tmp_path / "t.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TopologyError) as caught:
        source.read(path, {}, Mistakes("t.yaml"))
    assert caught.value.mistakes == [expected]


def test_a_directory_and_an_impossible_path_are_mistakes(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="Is a directory"):
        source.read(tmp_path, {}, Mistakes("t.yaml"))
    with pytest.raises(TopologyError, match="null byte"):
        source.read(Path("a\0b"), {}, Mistakes("t.yaml"))


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert source.read(path, {}, Mistakes("t.yaml")) == {"a": 1}


def test_a_location_is_written_as_people_write_it() -> None:
    assert dotted(("a", 0, "b-c", "d e", 3)) == "a[0].b-c['d e'][3]"
