"""What answers of models cost: by one's own prices, and by those of genai-prices."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from portico.errors import ConfigurationError
from portico.kernel.protocols import ModelIdentity, ModelResponse
from portico.llm.prices import Prices
from portico.runs.usage import format_cost

if TYPE_CHECKING:
    from pathlib import Path


def answer(model: str, tokens_in: int | None = 1_000_000, tokens_out: int | None = 0, **more: Any) -> ModelResponse:
    return ModelResponse("", model, tokens_in, tokens_out, **more)


def asked(provider: str = "openai", model: str = "m", url: str | None = None) -> ModelIdentity:
    return ModelIdentity(provider, model, provider, url)


# --- one's own --------------------------------------------------------------------------------------------------------


def test_every_kind_of_token_has_its_price() -> None:
    prices = Prices({"m": {"input": 2, "output": "10", "cached_input": 0.5, "cache_write": 2.5}}, bundled=False)
    response = answer("m", 1_000_000, 100_000, tokens_cached=400_000, tokens_cache_written=200_000, tokens_reasoning=50_000)

    assert prices.cost(asked(), response) == Decimal("0.8") + Decimal("0.2") + Decimal("0.5") + 1


def test_cached_tokens_cost_as_much_as_others_where_nothing_else_is_said() -> None:
    prices = Prices({"m": {"input": 2, "output": 0}}, bundled=False)

    assert prices.cost(asked(), answer("m", tokens_cached=900_000)) == 2


def test_the_most_exact_name_wins() -> None:
    names = ("*", "m*", "m-1*", "m-1", "openai:m-1")
    prices = Prices({name: {"input": index, "output": 0} for index, name in enumerate(names)}, bundled=False)

    found = [prices.cost(asked("other", name), answer(name)) for name in ("x", "m-2", "m-12", "m-1")]
    assert [*found, prices.cost(asked("openai", "m-1"), answer("m-1"))] == [0, 1, 2, 3, 4]


def test_a_model_is_known_by_the_name_that_was_asked_for_too() -> None:
    prices = Prices({"m": {"input": 3, "output": 0}}, bundled=False)

    assert prices.cost(asked(model="m"), answer("m-2026-01-31")) == 3


def test_an_answer_without_counts_has_no_price() -> None:
    prices = Prices({"m": {"input": 3, "output": 1}}, bundled=False)

    assert prices.cost(asked(), answer("m", None, 1)) is None
    assert prices.cost(asked(), answer("m", 1, None)) is None


@pytest.mark.parametrize("form", [json.dumps, str], ids=["json", "yaml"])
def test_prices_come_from_a_file(tmp_path: Path, form: Any) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(form({"m": {"input": 1.5, "output": 6}}))
    prices = Prices(bundled=False)

    assert prices.load_pricing_from_file(file) == 1
    assert prices.has_pricing("m")
    assert prices.cost(asked(), answer("m")) == Decimal("1.5")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "not an object"),
        ("m: 3", "'m' is not a model's name with an object"),
        ("m: {input: 1}", "has no 'output'"),
        ("m: {input: 1, output: -1}", "'output' of the model 'm' is -1"),
        ("m: {input: 1, output: .nan}", "'output' of the model 'm' is nan"),
        ("m: {input: 1, output: true}", "is True"),
        ("m: {input: 1, output: 1, inptu: 1}", "no member 'inptu'. Did you mean 'input'"),
    ],
)
def test_a_file_that_is_none_is_refused_whole(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(f"sound: {{input: 1, output: 1}}\n{text}" if text.startswith("m") else text)
    prices = Prices(bundled=False)

    with pytest.raises(ConfigurationError, match=message):
        prices.load_pricing_from_file(file)
    assert not prices.has_pricing("sound")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.yaml cannot be read: No such file"):
        Prices().load_pricing_from_file(tmp_path / "none.yaml")


def test_a_model_without_a_price_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    prices = Prices(bundled=False)
    with caplog.at_level(logging.WARNING, "portico.llm"):
        for _ in range(3):
            assert prices.cost(asked("p", "m"), answer("m")) is None
        assert prices.cost(asked("p", "n"), answer("n")) is None
        assert not prices.has_pricing("o")

    assert [record.args for record in caplog.records] == [("p:m",), ("p:n",)]


def test_two_runtimes_have_prices_of_their_own() -> None:
    one, other = Prices(bundled=False), Prices(bundled=False)
    one.register_pricing("m", input=1, output=1)

    assert (one.has_pricing("m"), other.has_pricing("m")) == (True, False)


# --- those of genai-prices --------------------------------------------------------------------------------------------


def test_the_bundled_prices_know_the_models_of_known_providers() -> None:
    prices = Prices()
    found = prices.cost(asked("openai", "gpt-4o-mini"), answer("gpt-4o-mini-2024-07-18", 1_000_000, 1_000_000))

    assert found == Decimal("0.15") + Decimal("0.6")
    assert prices.has_pricing("openai:gpt-4o-mini")
    assert not prices.has_pricing("openai:gpt-nonsense")


def test_the_address_says_whose_model_it_is() -> None:
    prices = Prices()
    url = "https://api.deepseek.com/chat/completions"

    assert prices.cost(asked("mine", "deepseek-chat", url), answer("deepseek-chat")) is not None
    assert prices.cost(asked("mine", "deepseek-chat", "http://127.0.0.1:8000/v1"), answer("deepseek-chat")) is None


def test_a_cached_token_is_cheaper_where_the_table_says_so() -> None:
    prices = Prices()
    plain = prices.cost(asked("openai", "gpt-4o-mini"), answer("gpt-4o-mini"))
    cached = prices.cost(asked("openai", "gpt-4o-mini"), answer("gpt-4o-mini", tokens_cached=1_000_000))

    assert plain is not None
    assert cached == plain / 2


def test_ones_own_price_wins_over_the_bundled_one() -> None:
    prices = Prices({"gpt-4o-mini": {"input": 7, "output": 0}})

    assert prices.cost(asked("openai", "gpt-4o-mini"), answer("gpt-4o-mini")) == 7


@pytest.mark.parametrize("own", [{}, {"gpt-4o-mini": {"input": "0.15", "cached_input": "0.075", "cache_write": 0, "output": 1}}])
def test_no_more_is_cached_than_was_read(own: Any, caplog: pytest.LogCaptureFixture) -> None:
    prices = Prices(own)
    whole = answer("gpt-4o-mini", 1000, 0, tokens_cached=1000)

    for cached, put in ((5000, None), (1000, 400), (1000, -400)):
        odd = answer("gpt-4o-mini", 1000, 0, tokens_cached=cached, tokens_cache_written=put)
        assert prices.cost(asked(model="gpt-4o-mini"), odd) == prices.cost(asked(model="gpt-4o-mini"), whole) == Decimal("0.000075")
    assert caplog.text == ""  # and so nobody is told that the model has no price


@pytest.mark.parametrize("tokens", [-1, 2**41])
def test_a_number_of_tokens_that_cannot_be_one_has_no_price_and_says_nothing_of_the_model(
    tokens: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert Prices().cost(asked(model="gpt-4o-mini"), answer("gpt-4o-mini", tokens, 1)) is None
    assert caplog.text == ""


# --- for people -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (None, "unknown"),
        (0, "$0.00"),
        (0.0042, "$0.0042"),
        (0.1, "$0.10"),
        (12.5, "$12.50"),
        (1234567.891, "$1,234,567.89"),
        (0.0000001, "<$0.000001"),
        (Decimal("0.000021"), "$0.000021"),
    ],
)
def test_money_is_written_as_people_read_it(usd: float | Decimal | None, text: str) -> None:
    assert format_cost(usd) == text


# --- what it takes to have those of genai-prices ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "loaded_by"), [("None", ["portico-prices"]), ("{'scripted': {'input': 1, 'output': 1}}", [])], ids=["bundled", "own"]
)
def test_the_bundled_prices_are_loaded_beside_the_event_loop_and_only_for_a_model_without_a_price(
    price: str, loaded_by: list[str]
) -> None:
    code = f"""
import asyncio, sys, threading
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import ModelResponse
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.llm.prices import Prices
from portico.llm.scripted import ScriptedModel
from portico.runs.book import book_of

class Watched:
    def find_spec(self, name, path=None, target=None):
        if name == "genai_prices":
            print(threading.current_thread().name)

class Asks(AgentProcess):
    async def handle(self, message):
        return {{"text": (await self.llm.chat("", [{{"role": "user", "content": "hi"}}])).content}}

async def main():
    sys.meta_path.insert(0, Watched())
    model = ScriptedModel([ModelResponse("hello", "scripted", 3, 4)])
    runtime = Runtime(Supervisor("root", children=[Asks("asks")]), model_provider=model, prices=Prices({price}))
    async with runtime:
        book_of(runtime)
        assert (await runtime.ask("asks", {{}})).payload == {{"text": "hello"}}

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == loaded_by
