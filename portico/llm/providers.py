"""Providers: several model providers behind one port, chosen by the first part of a model's name: `openai:gpt-4o-mini`.

The one table from provider types to classes, and the way from a topology's `models:` to a provider. Keys come from settings: what
reads the environment is above. A provider's library is imported when the provider is made.
"""

from __future__ import annotations

import importlib
import inspect
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, cast

from portico.errors import ConfigurationError, ModelError, did_you_mean, nearest
from portico.kernel.tap import identity_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence

    from portico.kernel.protocols import ModelIdentity, ModelProvider, ModelResponse

PROVIDER_TYPES: Final[Mapping[str, str]] = {
    "openai": "portico.llm.openai:OpenAIModel",
    "scripted": "portico.llm.scripted:ScriptedModel",
}
"""Type names of the house and where their classes are."""


class Providers:
    """A `ModelProvider` that hands each request to one of several.

    Args:
        providers: by name; a model named `name:model` goes to that provider as `model`.
        default: takes the models whose names begin with no provider's name; None for the first.

    Raises:
        ConfigurationError: no provider at all, or a default that is none of them.
    """

    def __init__(self, providers: Mapping[str, ModelProvider], default: str | None = None) -> None:
        if not providers:
            raise ConfigurationError("There is no model provider.")
        if default is not None and default not in providers:
            raise ConfigurationError(f"The default model provider {default!r} is not there.{_hint(default, providers)}")
        self._providers = dict(providers)
        self.default = default or next(iter(providers))

    def __repr__(self) -> str:
        return f"Providers({', '.join(self._providers)}; default {self.default})"

    async def chat(
        self, model: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> ModelResponse:
        """See `ModelProvider.chat`."""
        provider, name = self._chosen(model)
        return await provider.chat(name, messages, tools)

    async def stream(
        self, model: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> AsyncIterator[str | ModelResponse]:
        """See `ModelProvider.stream`."""
        provider, name = self._chosen(model)
        async with aclosing(cast("AsyncGenerator[str | ModelResponse]", provider.stream(name, messages, tools))) as pieces:
            async for piece in pieces:
                yield piece

    def identify(self, model: str) -> ModelIdentity:
        """See `KnowsModels.identify`."""
        provider, name = self._chosen(model)
        return identity_of(provider, name)

    async def aclose(self) -> None:
        """Close every provider that can be closed."""
        for provider in self._providers.values():
            await close(provider)

    def _chosen(self, model: str) -> tuple[ModelProvider, str]:
        name, _, rest = model.partition(":")
        if name in self._providers:
            return self._providers[name], rest
        if name in PROVIDER_TYPES and rest:
            hint = f" There are: {', '.join(self._providers)}. A provider whose `api_key` is empty is left out."
            raise ModelError(name, f"the model {model!r} needs this provider, which has no settings or no key.{hint}", began=False)
        return self._providers[self.default], model


def from_settings(settings: Mapping[str, Mapping[str, Any]], default: str | None = None) -> Providers:
    """The providers that a topology's `models:` describes.

    Each name has the keyword arguments of its provider, and `type:` where the name itself is not a type. A provider whose
    `api_key` is there but empty is left out, so that `api_key: ${OPENAI_API_KEY:-}` makes one that is there when its key is.

    Raises:
        ConfigurationError: an unknown type or setting, a value that cannot be, a default that is not there.
    """
    made = {name: make_provider(name, said) for name, said in settings.items() if said.get("api_key", True)}
    if settings and not made:
        raise ConfigurationError("No model provider is left: each has an empty `api_key`. Set one, or add `scripted`.")
    if default in settings and default not in made:
        raise ConfigurationError(f"The default model provider {default!r} has an empty `api_key`.")
    return Providers(made, default)


def make_provider(name: str, settings: Mapping[str, Any]) -> ModelProvider:
    """One provider from its settings: the keyword arguments of its class, and `type` where `name` is not a type.

    Raises:
        ConfigurationError: an unknown type or setting, or a value that cannot be.
    """
    said = {key: value for key, value in settings.items() if key != "type"}
    maker = _maker(str(settings.get("type", name)), name)
    taken = inspect.signature(maker).parameters
    if "name" in taken:
        said.setdefault("name", name)
    for key in said:
        if key not in taken:
            raise ConfigurationError(f"The model provider {name!r} has no setting {key!r}.{_hint(key, taken)}")
    try:
        return maker(**said)
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(f"The model provider {name!r} cannot be made of its settings: {error}.") from error


def provider_for(model: str, settings: Mapping[str, Any] | None = None) -> ModelProvider:
    """The provider for a model's whole name, such as `openai:gpt-4o-mini`; it takes that name.

    Raises:
        ConfigurationError: the name begins with no provider's name, or the settings cannot be.
    """
    name, separator, _ = model.partition(":")
    if not separator and not (settings and "type" in settings):
        raise ConfigurationError(f"The model {model!r} names no provider. Write it as in 'openai:gpt-4o-mini'.")
    return Providers({name: make_provider(name, settings or {})})


async def close(provider: ModelProvider) -> None:
    """Let a provider close its connections, if it has any."""
    aclose = getattr(provider, "aclose", None)
    if aclose is not None:
        await aclose()


def _maker(kind: str, name: str) -> Callable[..., ModelProvider]:
    if kind not in PROVIDER_TYPES:
        where = "" if kind == name else f" of {name!r}"
        raise ConfigurationError(f"There is no model provider type {kind!r}{where}.{_hint(kind, PROVIDER_TYPES)}")
    module, _, attribute = PROVIDER_TYPES[kind].partition(":")
    return getattr(importlib.import_module(module), attribute)


def _hint(name: str, known: Iterable[str]) -> str:
    names = list(known)
    return did_you_mean(nearest(name, names)) or f" There are: {', '.join(names)}."
