from __future__ import annotations

from typing import Any

import pytest

from portico.errors import ConfigurationError, ModelError
from portico.kernel.protocols import ModelResponse
from portico.llm.openai import OpenAIModel
from portico.llm.providers import Providers, from_settings, make_provider, provider_for
from portico.llm.scripted import ScriptedModel
from tests.llm.fake_openai import completion, fake_openai

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "Hello?"}]


async def test_a_model_s_name_begins_with_its_provider() -> None:
    one, two = ScriptedModel(["1", "1"]), ScriptedModel(["2", "2", "2"])
    providers = Providers({"one": one, "two": two}, "two")
    answers = [(await providers.chat(name, HELLO)).content for name in ("one:a", "two:b:8", "c:8b", "")]
    assert answers == ["1", "2", "2", "2"]
    assert [call.model for call in (*one.calls, *two.calls)] == ["a", "b:8", "c:8b", ""]


async def test_a_stream_comes_from_the_provider_too() -> None:
    providers = Providers({"one": ScriptedModel(["a b"])})
    pieces = [piece async for piece in providers.stream("one:m", HELLO)]
    assert pieces[:-1] == ["a ", "b"]
    assert isinstance(pieces[-1], ModelResponse)


async def test_a_known_provider_without_settings_is_told_in_a_sentence() -> None:
    with pytest.raises(ModelError, match="the model 'openai:x' needs this provider, which has no settings or no key"):
        await Providers({"scripted": ScriptedModel(["1"])}).chat("openai:x", HELLO)


async def test_settings_make_providers_of_any_name_and_the_first_is_the_default() -> None:
    async with fake_openai() as server:
        server.answers.append(completion("Hi."))
        settings: dict[str, dict[str, Any]] = {
            "local": {"type": "openai", "base_url": server.base_url, "model": "tiny"},
            "scripted": {"rules": [{"say": "Scripted."}]},
        }
        providers = from_settings(settings)
        assert (await providers.chat("", HELLO)).content == "Hi."
        assert (await providers.chat("scripted", HELLO)).content == "Scripted."
        assert server.last.body["model"] == "tiny"
        await providers.aclose()
        await server.closed.wait()


async def test_a_provider_whose_key_is_empty_is_left_out() -> None:
    settings: dict[str, dict[str, Any]] = {"openai": {"api_key": ""}, "scripted": {"rules": [{"say": "Scripted."}]}}
    assert (await from_settings(settings).chat("", HELLO)).content == "Scripted."
    with pytest.raises(ModelError, match="which has no settings or no key"):
        await from_settings(settings).chat("openai:gpt", HELLO)
    settings["openai"]["api_key"] = "key"
    assert from_settings(settings).default == "openai"


@pytest.mark.parametrize(
    ("settings", "default", "sentence"),
    [
        ({"opanai": {}}, None, "There is no model provider type 'opanai'. Did you mean 'openai'?"),
        ({"x": {"type": "opanai"}}, None, "There is no model provider type 'opanai' of 'x'. Did you mean 'openai'?"),
        ({"scripted": {"rule": []}}, None, "The model provider 'scripted' has no setting 'rule'. Did you mean 'rules'?"),
        ({"openai": {"api_key": ""}}, None, "No model provider is left: each has an empty `api_key`. Set one, or add `scripted`."),
        ({}, None, "There is no model provider."),
        ({"scripted": {}}, "scriptd", "The default model provider 'scriptd' is not there. Did you mean 'scripted'?"),
        (
            {"openai": {"api_key": ""}, "scripted": {}},
            "openai",
            "The default model provider 'openai' has an empty `api_key`.",
        ),
    ],
)
def test_settings_that_cannot_be_are_told_in_a_sentence(settings: dict[str, Any], default: str | None, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        from_settings(settings, default)
    assert str(caught.value) == sentence


def test_a_value_of_a_wrong_type_is_a_mistake_of_the_settings() -> None:
    with pytest.raises(ConfigurationError, match="The model provider 'openai' cannot be made of its settings"):
        make_provider("openai", {"api_key": "key", "timeout": "soon"})


async def test_a_whole_name_finds_its_provider_alone() -> None:
    provider = provider_for("scripted:demo", {"rules": [{"say": "Hi."}]})
    answer = await provider.chat("scripted:demo", HELLO)
    assert (answer.content, answer.model) == ("Hi.", "demo")
    with pytest.raises(ConfigurationError, match="names no provider"):
        provider_for("gpt-4o-mini")


def test_a_provider_is_called_by_the_name_that_it_has_in_the_settings() -> None:
    provider = make_provider("local", {"type": "openai", "base_url": "http://127.0.0.1:1"})
    assert isinstance(provider, OpenAIModel)
    assert provider.name == "local"
