"""OpenAIModel: any API that speaks OpenAI's chat completions: OpenAI itself, vLLM, Ollama, LiteLLM, Azure.

The one file that knows httpx. Above: agents, by the port `ModelProvider`. It decides nothing: no retry, no budget, no fallback.
What goes wrong becomes one `ModelError` that says what happened, with the status and the wait that the API asked for.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from contextlib import aclosing, asynccontextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary

import httpx

from portico.errors import ConfigurationError, ModelError
from portico.kernel.protocols import ModelIdentity
from portico.llm import completions
from portico.retry_after import retry_after
from portico.sse import EventDecoder

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

    from portico.kernel.protocols import ModelResponse

OPENAI_URL: Final = "https://api.openai.com/v1"
"""Where OpenAI's own API is."""
LARGEST: Final = 16 * 1024 * 1024
"""The bytes that an answer may have."""
_QUOTED: Final = 300
"""How many characters of an error's text are quoted."""
_VENDORS: Final = {
    "openai.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "anthropic.com": "anthropic",
    "deepseek.com": "deepseek",
    "groq.com": "groq",
    "mistral.ai": "mistral_ai",
    "moonshot.ai": "moonshot_ai",
    "perplexity.ai": "perplexity",
    "x.ai": "x_ai",
}
"""Ends of host names, and whose they are in the words of OpenTelemetry's `gen_ai.provider.name`."""
_DONE: Final = "[DONE]"
"""The last event of a stream."""
_LINGER: Final = 1.0
"""Seconds that a server has to end its answer after it said that this is all; then its connection is not used again."""


class OpenAIModel:
    """A `ModelProvider` over an OpenAI-compatible API. One pool of connections per event loop, opened on first use.

    Args:
        base_url: what stands before `/chat/completions`.
        api_key: sent as `Authorization: Bearer …` and nowhere else; None for servers that want none.
        timeout: seconds for a whole answer; of a streamed one, until its first piece and between two pieces.
        model: the model where the agent names none.
        headers: more headers, such as `api-key` for Azure.
        parameters: more members of every request, such as `temperature`.
        include_usage: ask for the usage of streamed answers; False for servers that refuse `stream_options`.
        name: what errors call this provider, and the prefix that model names may carry (`openai:gpt-4o-mini`).

    Raises:
        ConfigurationError: an address or a header that cannot be, or OpenAI's own address without a key.
    """

    def __init__(
        self,
        base_url: str = OPENAI_URL,
        api_key: str | None = None,
        *,
        timeout: float = 60.0,
        model: str = "",
        headers: Mapping[str, str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        include_usage: bool = True,
        name: str = "openai",
    ) -> None:
        if not (timeout > 0 and math.isfinite(timeout)):
            raise ConfigurationError(
                f"The timeout of the model provider {name!r} is {timeout!r}: it needs to be a number of seconds above 0."
            )
        api_key = (api_key or "").strip()
        self.name = name
        self.timeout = timeout
        self._url = _url(name, base_url)
        self._model = model
        self._headers = _headers(name, api_key, headers or {})
        if base_url.rstrip("/") == OPENAI_URL and not api_key and not headers:
            raise ConfigurationError(f"The model provider {name!r} needs an api_key: {OPENAI_URL} takes no calls without one.")
        self._secrets = [secret for secret in (api_key, *(headers or {}).values(), self._url.password) if secret]
        self._parameters = dict(parameters or {})
        self._include_usage = include_usage
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"OpenAIModel({self.name!r}, host={self._url.host!r})"

    # --- the port -----------------------------------------------------------------------------------------------------

    async def chat(
        self, model: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> ModelResponse:
        """See `ModelProvider.chat`."""
        body = self._body(model, messages, tools)
        pieces = completions.Pieces(body["model"])
        try:
            async with asyncio.timeout(self.timeout), self._exchange(body, pieces) as response:
                return await self._whole(response, pieces)
        except TimeoutError:
            raise self._error(f"no answer within {self.timeout:g} s.") from None

    async def stream(
        self, model: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> AsyncIterator[str | ModelResponse]:
        """See `ModelProvider.stream`."""
        body = self._body(model, messages, tools)
        body["stream"] = True
        if self._include_usage:
            body["stream_options"] = {"include_usage": True}
        pieces = completions.Pieces(body["model"])
        async with self._exchange(body, pieces) as response:
            if "event-stream" not in response.headers.get("content-type", ""):
                answer = await self._whole(response, pieces)  # the server does not stream
                if answer.content:
                    yield answer.content
                yield answer
                return
            async with aclosing(_events(response)) as events:
                async for data in events:
                    text = ""
                    if data == _DONE:
                        pieces.complete = True
                    else:
                        text = pieces.add(completions.parse(data, "a piece of its answer"))
                    if text:
                        yield text
            if not pieces.complete:
                raise self._error("the stream ended before the answer was complete.", tokens=pieces.tokens)
            yield pieces.response()

    def identify(self, model: str) -> ModelIdentity:
        """See `KnowsModels.identify`. An API of nobody known is taken for what it imitates."""
        host, url = self._url.host, self._url.copy_with(userinfo=b"", query=None)
        vendor = next((name for end, name in _VENDORS.items() if host == end or host.endswith(f".{end}")), "openai")
        return ModelIdentity(self.name, model.removeprefix(f"{self.name}:") or self._model, vendor, str(url))

    async def aclose(self) -> None:
        """Close the connections of the running event loop. A later call opens new ones."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    # --- one exchange -------------------------------------------------------------------------------------------------

    def _body(self, model: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
        name = model.removeprefix(f"{self.name}:") or self._model
        if not name:
            raise self._error(f"no model is named. Name one ({self.name}:…), or give the provider a default: model.", began=False)
        return completions.request(name, messages, tools, self._parameters)

    @asynccontextmanager
    async def _exchange(self, body: Mapping[str, Any], pieces: completions.Pieces) -> AsyncGenerator[httpx.Response]:
        """Send a request; the answer's body is still to be read. Whatever goes wrong meanwhile becomes a `ModelError`.

        It tells the tokens of those `pieces` that came before.
        """
        content = json.dumps(body, allow_nan=False).encode()
        try:
            async with self._client().stream("POST", self._url, content=content, headers=self._headers) as response:
                if not response.is_success:
                    raise await self._refusal(response)
                yield response
        except httpx.ConnectTimeout:
            raise self._error(f"no connection to {self._url.host} within {self.timeout:g} s.", began=False) from None
        except httpx.TimeoutException:
            raise self._error(f"nothing came for {self.timeout:g} s.", tokens=pieces.tokens) from None
        except httpx.ConnectError as error:
            raise self._error(f"no connection to {self._url.host}: {self._clean(str(error))}.", began=False) from error
        except (httpx.RemoteProtocolError, httpx.ReadError) as error:
            raise self._error("the connection broke off before the answer was complete.", tokens=pieces.tokens) from error
        except httpx.HTTPError as error:
            raise self._error(f"the request failed: {type(error).__name__}: {self._clean(str(error))}.") from error
        except completions.ReportedError as error:
            raise self._error(
                f"it reports an error: {self._clean(error.text) or 'without a message'}",
                status=error.status,
                tokens=pieces.tokens,
            ) from None
        except ValueError as error:
            raise self._error(f"{error}.", tokens=pieces.tokens) from None

    def _client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            # As many connections as there are callers: how many may call at once is a matter of policy, not of this file.
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
            client = self._clients[loop] = httpx.AsyncClient(timeout=self.timeout, limits=limits)
        return client

    async def _whole(self, response: httpx.Response, pieces: completions.Pieces) -> ModelResponse:
        data = await _read(response, LARGEST)
        if len(data) > LARGEST:
            raise self._error(f"its answer has more than {LARGEST} bytes.")
        return completions.whole(completions.parse(data.decode(errors="replace"), "its answer"), pieces)

    async def _refusal(self, response: httpx.Response) -> ModelError:
        """What an answer with an error status says."""
        with suppress(httpx.HTTPError):  # the status is what counts
            data = await _read(response, _QUOTED * 100)
            text = self._clean(_message(data.decode(errors="replace")))
            return self._refused(response, text)
        return self._refused(response, "")

    def _refused(self, response: httpx.Response, text: str) -> ModelError:
        wait = retry_after(response.headers.get("retry-after"))
        sentence = f"the model API answered {response.status_code} {_phrase(response.status_code)}"
        sentence += f": {text.rstrip('.')}." if text else "."
        if wait is not None:
            sentence += f" Try again in {wait:.0f} s."
        return self._error(sentence, status=response.status_code, retry_after=wait, began=response.is_server_error)

    def _error(
        self,
        detail: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        began: bool = True,
        tokens: tuple[int | None, int | None] = (None, None),
    ) -> ModelError:
        return ModelError(self.name, detail, status=status, retry_after=retry_after, began=began, tokens=tokens)

    def _clean(self, text: str) -> str:
        """A stranger's text on one short line, without any of our secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = re.sub(r"[\s\x00-\x1f\x7f]+", " ", text).strip()
        return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…"


# --- settings ---------------------------------------------------------------------------------------------------------


def _url(name: str, base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url.strip())
    except (httpx.InvalidURL, UnicodeError):
        url = httpx.URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigurationError(f"The base_url of the model provider {name!r} needs to be an address such as {OPENAI_URL}.")
    return url.copy_with(path=f"{url.path.rstrip('/')}/chat/completions", fragment=None)


def _headers(name: str, api_key: str, headers: Mapping[str, str]) -> dict[str, str]:
    """Checked here, since httpx would quote a value that cannot be sent, and these are secrets."""
    authorization = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    made = {"Content-Type": "application/json", **headers, **authorization}
    for key, value in made.items():
        if not re.fullmatch(r"[!-~](?:[ -~]*[!-~])?", value) or not re.fullmatch(r"[A-Za-z0-9_-]+", key):
            what = "api_key" if key == "Authorization" and api_key else f"header {key!r}"
            raise ConfigurationError(f"The {what} of the model provider {name!r} cannot be sent: it needs to be one line of ASCII.")
    return made


# --- answers ----------------------------------------------------------------------------------------------------------


async def _events(response: httpx.Response) -> AsyncGenerator[str]:
    """The data of each event, `[DONE]` included."""
    decoder = EventDecoder()
    async with aclosing(cast("AsyncGenerator[bytes]", response.aiter_bytes())) as chunks:
        async for chunk in chunks:
            for event in decoder.feed(chunk):
                yield event.data
                if event.data == _DONE:
                    await _drain(chunks)
                    return
    for event in decoder.end():
        yield event.data


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """Read to the end of an answer that is complete, so that its connection can be used again."""
    with suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(_LINGER):
            async for _ in chunks:
                pass


async def _read(response: httpx.Response, limit: int) -> bytes:
    """The body, or somewhat more than `limit` bytes of it."""
    data = bytearray()
    async with aclosing(cast("AsyncGenerator[bytes]", response.aiter_bytes())) as chunks:
        async for chunk in chunks:
            data += chunk
            if len(data) > limit:
                break
    return bytes(data)


def _message(body: str) -> str:
    """What an error's body says: its message where it is JSON that has one, else the text itself."""
    try:
        return completions.error_text(json.loads(body)) or body
    except (ValueError, RecursionError):
        return body


def _phrase(status: int) -> str:
    with suppress(ValueError):
        return HTTPStatus(status).phrase
    return ""
