"""Prices: what a model's answer costs: by one's own prices, else by those that genai-prices brings along.

The one file that knows genai-prices (https://github.com/pydantic/genai-prices): the table of the installed version, which is never
fetched from anywhere. Above: whoever builds a runtime. What has no price has none: it is counted as unknown, and never as free.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, cast

from portico.errors import ConfigurationError, did_you_mean, nearest
from portico.kernel.protocols import MOST_TOKENS, ModelIdentity, ModelResponse

if TYPE_CHECKING:
    from types import ModuleType

logger = logging.getLogger("portico.llm")

MOST_WARNED: Final = 1000
"""How many models without a price are warned of, one by one."""
LARGEST: Final = 4 * 1024 * 1024
"""The bytes that a file of prices may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What one model costs: US dollars for a million tokens."""

    input: Decimal
    """For what it reads."""
    output: Decimal
    """For what it writes, with what it thinks."""
    cached_input: Decimal | None = None
    """For what it reads from its cache; None for the same as any other input."""
    cache_write: Decimal | None = None
    """For what it reads and puts into its cache; None for the same as any other input."""

    @classmethod
    def of(cls, model: str, said: Mapping[str, Any]) -> Self:
        """The price that somebody wrote down for a model. Raises `ConfigurationError` where it is none."""
        known = [one.name for one in fields(cls)]
        for key in said:
            if key not in known:
                hint = did_you_mean(nearest(str(key), known)) or f" There are: {', '.join(known)}."
                raise ConfigurationError(f"The price of the model {model!r} has no member {key!r}.{hint}")
        for key in ("input", "output"):
            if said.get(key) is None:
                raise ConfigurationError(f"The price of the model {model!r} has no {key!r}: US dollars for a million tokens.")
        return cls(**{key: _dollars(model, key, value) for key, value in said.items() if value is not None})

    def cost(self, response: ModelResponse) -> Decimal | None:
        """US dollars; None where it is not known how much was read and written. Its counts are in accord with each other."""
        read, written = response.tokens_in, response.tokens_out
        if read is None or written is None:
            return None
        cached, put = response.tokens_cached or 0, response.tokens_cache_written or 0
        rest = read - cached - put
        parts = (
            (rest, self.input),
            (cached, self.input if self.cached_input is None else self.cached_input),
            (put, self.input if self.cache_write is None else self.cache_write),
            (written, self.output),
        )
        return sum((count * price for count, price in parts), Decimal(0)) / 1_000_000


class Prices:
    """The prices of one runtime: `Runtime(prices=Prices())`, where that is not there anyway.

    Args:
        own: prices by model, which win over the bundled ones: mappings with `input`, `output`, `cached_input`, `cache_write` in US
            dollars for a million tokens. A model is named as its provider names it, or as `provider:model`; `*` stands for
            anything.
        bundled: whether the prices of genai-prices count where there are none of one's own.

    Raises:
        ConfigurationError: a price that is none.
    """

    def __init__(self, own: Mapping[str, Mapping[str, Any]] | None = None, *, bundled: bool = True) -> None:
        self._own: dict[str, Price] = {}
        self._bundled = bundled
        self._warned: set[str] = set()
        self._loading: threading.Thread | None = None
        for model, price in (own or {}).items():
            self.register_pricing(model, **price)

    # --- one's own ----------------------------------------------------------------------------------------------------

    def register_pricing(self, model: str, **price: Any) -> None:
        """Give a model a price of one's own, in place of an earlier one: `register_pricing("gpt-4o-mini", input=0.15, output=0.6)`.

        Raises:
            ConfigurationError: that is no price.
        """
        self._own[model] = Price.of(model, price)
        self._warned.clear()

    def load_pricing_from_file(self, path: Path | str) -> int:
        """Take one's own prices from a YAML or JSON file: an object for each model. Returns how many. All of them, or none.

        Raises:
            ConfigurationError: it cannot be read, or holds something else.
        """
        read = {model: Price.of(model, price) for model, price in _read(Path(path)).items()}
        self._own |= read
        self._warned.clear()
        return len(read)

    # --- asked --------------------------------------------------------------------------------------------------------

    def has_pricing(self, model: str) -> bool:
        """Whether a model has a price: `gpt-4o-mini`, `openai:gpt-4o-mini`."""
        provider, separator, rest = model.partition(":")
        identity = ModelIdentity(provider, rest, provider) if separator else ModelIdentity("", model, "")
        nothing = ModelResponse("", identity.model, 0, 0)
        if separator and self._own_price(ModelIdentity("", model, ""), model) is not None:
            return True  # a model whose own name has a colon, as those of Ollama have
        return self._of(identity, nothing) is not None

    def cost(self, identity: ModelIdentity, response: ModelResponse) -> Decimal | None:
        """See `Pricing.cost`. The first time that a model has no price, the log says so."""
        counted = _accordant(response)
        if counted is None:
            return None
        cost = self._of(identity, counted)
        if cost is None:
            self._warn(identity, response.model)
        return cost

    def warm_up(self, identity: ModelIdentity) -> None:
        """See `Pricing.warm_up`: genai-prices takes half a second to import, and is seldom asked for a model in this program."""
        if self._loading is None and identity.url is not None:
            self._load(identity, "")

    async def ready(self, identity: ModelIdentity, response: ModelResponse) -> None:
        """See `Pricing.ready`."""
        if response.tokens_in is None or response.tokens_out is None:
            return
        if self._loading is None:
            self._load(identity, response.model)
        if self._loading is not None and self._loading.is_alive():
            await asyncio.to_thread(self._loading.join)

    def _load(self, identity: ModelIdentity, answered: str) -> None:
        """Begin to load the bundled prices, unless there is one of one's own for this model."""
        if self._bundled and self._own_price(identity, answered) is None:
            self._loading = threading.Thread(target=_bundled, name="portico-prices")
            self._loading.start()

    def _of(self, identity: ModelIdentity, response: ModelResponse) -> Decimal | None:
        own = self._own_price(identity, response.model)
        if own is not None:
            return own.cost(response)
        return _bundled_cost(identity, response) if self._bundled else None

    def _own_price(self, identity: ModelIdentity, answered: str) -> Price | None:
        """By the model that was asked or that answered; an exact name wins over a pattern, and a longer pattern over a shorter."""
        names = [name for name in (identity.model, answered) if name]
        names += [f"{identity.provider}:{name}" for name in names if identity.provider]
        for name in reversed(names):
            if name in self._own:
                return self._own[name]
        patterns = sorted((one for one in self._own if "*" in one), key=len, reverse=True)
        return next((self._own[one] for one in patterns if any(fnmatchcase(name, one) for name in names)), None)

    def _warn(self, identity: ModelIdentity, answered: str) -> None:
        model = f"{identity.provider}:{answered or identity.model}"
        if model not in self._warned and len(self._warned) < MOST_WARNED:
            self._warned.add(model)
            logger.warning("the model %r has no price: its calls are counted as unpriced; `prices:` can give it one", model)


def _accordant(response: ModelResponse) -> ModelResponse | None:
    """Its counts in accord: no more went from or to the cache than was read. None where it is not known how much that was."""
    read, written = response.tokens_in, response.tokens_out
    if read is None or written is None or min(read, written) < 0 or max(read, written) > MOST_TOKENS:
        return None
    cached = min(read, max(0, response.tokens_cached or 0))
    put = min(read - cached, max(0, response.tokens_cache_written or 0))
    return replace(response, tokens_cached=cached or None, tokens_cache_written=put or None)


# --- the table of genai-prices ----------------------------------------------------------------------------------------


def _bundled_cost(identity: ModelIdentity, response: ModelResponse) -> Decimal | None:
    """By where it was asked; else by whom the settings name. An API of nobody known has no price: whose model would it be?"""
    library = _bundled()
    usage = {
        "input_tokens": response.tokens_in,
        "output_tokens": response.tokens_out,
        "cache_read_tokens": response.tokens_cached,
        "cache_write_tokens": response.tokens_cache_written,
    }
    told = {key: value for key, value in usage.items() if value is not None}
    wheres: list[dict[str, str]] = [{"provider_api_url": identity.url}] if identity.url else []
    wheres.append({"provider_id": identity.provider.lower()} if identity.provider else {})
    for where in wheres:
        for model in (response.model, identity.model):
            try:
                found = library.calc_price(library.Usage(**told), model, **where)
            except (LookupError, ValueError):
                continue
            price = found.model_price
            unknown = (response.tokens_in and price.input_mtok is None) or (response.tokens_out and price.output_mtok is None)
            return None if unknown else cast("Decimal", found.total_price)
    return None


def _bundled() -> ModuleType:
    import genai_prices  # noqa: PLC0415  # half a second: only where a model is called

    return genai_prices


# --- what people write ------------------------------------------------------------------------------------------------


def _read(path: Path) -> dict[str, Mapping[str, Any]]:
    import yaml  # noqa: PLC0415  # only where there is a file

    try:
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise ValueError(f"it has more than {LARGEST} bytes")
        data: Any = yaml.safe_load(text)  # JSON is YAML too
    except OSError as error:
        raise ConfigurationError(f"The prices in {path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigurationError(f"The prices in {path} cannot be read: {' '.join(str(error).split())}.") from error
    if not isinstance(data, Mapping):
        raise ConfigurationError(f"The prices in {path} are not an object with a member for each model.")
    for model, price in cast("Mapping[Any, Any]", data).items():
        if not isinstance(model, str) or not isinstance(price, Mapping):
            raise ConfigurationError(f"In the prices of {path}, {model!r} is not a model's name with an object.")
    return dict(cast("Mapping[str, Mapping[str, Any]]", data))


def _dollars(model: str, key: str, value: Any) -> Decimal:
    try:
        amount = Decimal(str(value)) if not isinstance(value, bool) else None
    except InvalidOperation:
        amount = None
    if amount is None or not amount.is_finite() or not 0 <= amount <= 1_000_000:  # noqa: PLR2004  # a dollar for each token
        raise ConfigurationError(
            f"The {key!r} of the model {model!r} is {value!r}: it needs to be US dollars for a million tokens."
        )
    return amount
