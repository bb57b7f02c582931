from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from portico.llm.tool_names import LEGAL, ToolNames, legal_name


def test_a_legal_name_stays_as_it_is() -> None:
    assert legal_name("read_file-2") == "read_file-2"


def test_an_address_becomes_server_and_tool() -> None:
    assert legal_name("mcp://files/read.text") == "files__read_text"


def test_a_long_name_is_cut_and_marked_so_that_its_twin_stays_another() -> None:
    one, two = (legal_name("mcp://files/" + "x" * 100 + end) for end in "ab")
    assert one != two
    assert len(one) == len(two) == 64


def test_names_that_would_be_alike_are_told_apart() -> None:
    names = ToolNames(["a.b", "a/b", "a__b", "a_b"])
    offered = [names.to_model(name) for name in ("a.b", "a/b", "a__b", "a_b")]
    assert len(set(offered)) == 4
    assert offered[2:] == ["a__b", "a_b"]


def test_a_name_that_nobody_offered_stays_as_it_is() -> None:
    assert ToolNames(["a"]).from_model("invented") == "invented"


@given(st.lists(st.text(max_size=80)))
def test_every_name_is_legal_unique_and_found_again(given_names: list[str]) -> None:
    names = ToolNames(given_names)
    offered = {name: names.to_model(name) for name in given_names}
    assert all(LEGAL.fullmatch(name) for name in offered.values())
    assert len(set(offered.values())) == len(offered)
    assert all(names.from_model(told) == name for name, told in offered.items())
