from __future__ import annotations

from typing import Any

import pytest

from portico.errors import ConfigurationError, ModelError
from portico.kernel.protocols import ModelResponse, ToolCall
from portico.llm.scripted import ScriptedModel

pytestmark = pytest.mark.anyio

READ = {"type": "function", "function": {"name": "files__read", "description": "", "parameters": {"type": "object"}}}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def after_tool(question: str, *results: str) -> list[dict[str, Any]]:
    """A conversation in which the model has called a tool for each result."""
    turns: list[dict[str, Any]] = [user(question)]
    for result in results:
        turns += [{"role": "assistant", "content": None}, {"role": "tool", "tool_call_id": "x", "content": result}]
    return turns


# --- a list of responses ----------------------------------------------------------------------------------------------


async def test_responses_are_given_one_by_one() -> None:
    whole = ModelResponse("", "m", tool_calls=(ToolCall("1", "add", {}),))
    model = ScriptedModel(["one", whole, lambda messages, tools: f"{messages[0]['content']} {len(tools)}"])
    assert (await model.chat("m", [user("?")])).content == "one"
    assert await model.chat("m", [user("?")]) is whole
    assert (await model.chat("m", [user("?")], [READ])).content == "? 1"


async def test_a_text_counts_words_as_tokens_and_costs_nothing() -> None:
    answer = await ScriptedModel(["two words"]).chat("m", [user("and now three")])
    assert answer == ModelResponse("two words", "m", 3, 2, 0.0, (), "stop")


async def test_an_error_in_the_script_is_raised() -> None:
    with pytest.raises(ModelError, match="busy"):
        await ScriptedModel([ModelError("scripted", "busy")]).chat("m", [])


async def test_an_awaited_function_may_answer() -> None:
    async def answer(messages: Any, tools: Any) -> str:
        return "later"

    assert (await ScriptedModel([answer]).chat("m", [])).content == "later"


async def test_a_script_that_has_run_out_says_so() -> None:
    model = ScriptedModel(["one"])
    await model.chat("m", [])
    with pytest.raises(ModelError, match="The script has run out: each of its 1 responses was used"):
        await model.chat("m", [])


async def test_what_it_was_asked_is_kept_as_it_was_then() -> None:
    model, messages = ScriptedModel(["one"]), [user("?")]
    await model.chat("m", messages, [READ])
    messages[0]["content"] = "changed"
    assert (model.calls[0].model, model.calls[0].messages, model.calls[0].tools) == ("m", [user("?")], [READ])


async def test_a_stream_gives_words_and_then_the_whole() -> None:
    pieces = [piece async for piece in ScriptedModel(["  Hello  big\nworld"]).stream("m", [])]
    assert pieces[:-1] == ["  ", "Hello  ", "big\n", "world"]
    assert isinstance(pieces[-1], ModelResponse)
    assert pieces[-1].content == "  Hello  big\nworld"


# --- rules ------------------------------------------------------------------------------------------------------------


async def said(rules: list[dict[str, Any]], messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> str:
    return (await ScriptedModel(rules=rules).chat("m", messages, tools)).content


async def called(rules: list[dict[str, Any]], messages: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    answer = await ScriptedModel(rules=rules).chat("m", messages, [READ])
    return answer.tool_calls[0].name, answer.tool_calls[0].arguments


async def test_the_first_rule_that_fits_the_question_answers() -> None:
    rules = [{"when": "weather", "say": "Sunny."}, {"when": "hello", "say": "Hi."}, {"say": "Pardon: {question}"}]
    assert await said(rules, [user("HELLO, you")]) == "Hi."
    assert await said(rules, [user("hello"), {"role": "assistant", "content": "Hi."}, user("what?")]) == "Pardon: what?"


async def test_no_rule_that_fits_is_told_in_a_sentence() -> None:
    with pytest.raises(ModelError, match="No rule fits 'what\\?'"):
        await said([{"when": "hello", "say": "Hi."}], [user("what?")])


async def test_a_rule_calls_a_tool_and_then_answers_out_of_its_result() -> None:
    rules: list[dict[str, Any]] = [
        {
            "when": r"read (?P<path>\S+)",
            "call": "mcp://files/read",
            "arguments": {"path": "{path}", "top": 5},
            "say": "It says: {result}",
        }
    ]
    assert await called(rules, [user("read a.md")]) == ("files__read", {"path": "a.md", "top": 5})
    assert await said(rules, after_tool("read a.md", "text")) == "It says: text"


async def test_a_rule_that_only_calls_says_the_result() -> None:
    assert await said([{"call": "x"}], after_tool("?", '{"result": "text"}')) == "text"


async def test_steps_are_taken_one_after_the_other() -> None:
    rules: list[dict[str, Any]] = [
        {
            "steps": [
                {"call": "files__read", "arguments": {}},
                {"call": "files__read", "arguments": {"of": ["{result.files.0}"], "n": "{result.count}"}},
                {"say": "Done: {result}"},
            ]
        }
    ]
    first = '{"files": ["a.md", "b.md"], "count": 2}'
    assert await called(rules, [user("?")]) == ("files__read", {})
    assert await called(rules, after_tool("?", first)) == ("files__read", {"of": ["a.md"], "n": 2})
    assert await said(rules, after_tool("?", first, "text")) == "Done: text"


async def test_a_path_leads_into_json_and_a_star_takes_every_item() -> None:
    result = '{"hits": [{"line": "one", "no": 1}, {"line": "two"}, {}]}'
    assert await said([{"call": "x", "say": "{result.hits.*.line} | {result.hits.0}"}], after_tool("?", result)) == (
        'one\ntwo | {"line": "one", "no": 1}'
    )


@pytest.mark.parametrize("result", ['{"hits": []}', "Error: no such file", '{"other": 1}', "[1]", "null"])
async def test_a_place_that_is_missing_or_empty_says_otherwise(result: str) -> None:
    rules = [{"when": "about (?P<topic>\\w+)", "call": "x", "say": "{result.hits.*.line}", "otherwise": "Nothing about {topic}."}]
    assert await said(rules, after_tool("about cats", result)) == "Nothing about cats."


async def test_two_calls_of_one_conversation_have_different_ids() -> None:
    model = ScriptedModel(rules=[{"steps": [{"call": "files__read"}, {"call": "files__read"}, {"say": "x"}]}])
    one = await model.chat("m", [user("?")], [READ])
    two = await model.chat("m", after_tool("?", "text"), [READ])
    assert one.tool_calls[0].id != two.tool_calls[0].id


async def test_a_tool_that_the_agent_does_not_offer_is_told_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="which the agent does not offer") as caught:
        await called([{"call": "mcp://files/reed"}], [user("?")])
    assert str(caught.value).endswith("'mcp://files/reed', which the agent does not offer. Did you mean 'files__read'?")


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({"wen": "x", "say": "y"}, "rules[0].wen: there is no such key. Did you mean 'when'?"),
        ({"steps": [{"cal": "x"}]}, "rules[0].steps[0].cal: there is no such key. Did you mean 'call'?"),
        (
            {"when": "(", "say": "y"},
            "rules[0].when: '(' is not a regular expression: missing ), unterminated subpattern at position 0.",
        ),
        ({"when": "x"}, "rules[0]: a step has either 'call' or 'say'."),
        ({"say": "x", "arguments": {"a": 1}}, "rules[0]: 'arguments' belong to a 'call'."),
        ({"steps": [{"say": "x"}], "say": "y"}, "rules[0]: 'steps' stand alone: what else the rule does belongs into them."),
        ({"steps": [{"call": "x"}]}, "rules[0]: the last of 'steps' says something, and only the last."),
        ({"when": "(?P<topic>.)", "say": "{topik}"}, "rules[0]: nothing is called {topik} here. Did you mean 'topic'?"),
    ],
)
def test_a_rule_that_cannot_be_is_told_with_its_place(rule: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ScriptedModel(rules=[rule])
    assert sentence in str(caught.value)
