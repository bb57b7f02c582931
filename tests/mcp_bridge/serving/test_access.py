"""Who may use the MCP endpoint, and what those are told that may not: hosts and prefixes, keys, tokens, sessions, OAuth clients."""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import anyio
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.auth import OAuthClientProvider
from mcp.client.auth.oauth2 import TokenStorage
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from pydantic import AnyUrl

from portico.app.factory import create_app
from portico.app.settings import GatewayConfig
from portico.auth.api_key import new_key
from portico.auth.key_file import KeyFile
from portico.auth.principal import Principal
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.mcp_bridge.calling.wiring import build_upstreams
from portico.mcp_bridge.config import MCPServerConfig
from portico.operations.decorators import operation
from tests.app.serving import is_problem, listening, served
from tests.auth.issuer import AUDIENCE, OAUTH, Issuer, issuing
from tests.conformance import node
from tests.mcp_bridge.serving.abuse import LEGACY, MODERN, At, call, old_call, opening
from tests.routes.agents import Echo

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from pathlib import Path

    import httpx
    from starlette.types import ASGIApp, Receive, Scope, Send

    from tests.app.serving import Served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

ERAS = ["2026-07-28", "legacy"]
HEADERS = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
METADATA = "/.well-known/oauth-protected-resource"


class Vault(AgentProcess):
    """Opens for some."""

    @operation(scopes=["vault:open"])
    async def unlock(self, ctx: Context) -> dict[str, str | None]:
        """Open it."""
        return {"by": ctx.principal}


@pytest.fixture(scope="module")
def issuer() -> Generator[Issuer]:
    with issuing() as one:
        yield one


@pytest.fixture(scope="module")
async def gateway(anyio_backend: object, issuer: Issuer) -> AsyncGenerator[Served]:
    settings: dict[str, Any] = {"jwt_issuer": issuer.url, "jwt_audience": AUDIENCE, "api_key": "sesame"}
    async with served(Echo("echo"), Vault("vault"), patience=None, **settings) as one:
        yield one


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def post(gateway: Served, message: Any, path: str = "/mcp", **headers: str) -> httpx.Response:
    return await gateway.client.post(path, json=message, headers={**HEADERS, **headers})


async def modern(gateway: Served, name: str = "echo", **headers: str) -> httpx.Response:
    routing = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": name}
    return await post(gateway, call(None if name == "echo" else {}, name=name), **routing, **headers)


@asynccontextmanager
async def client(gateway: Served, era: str, token: str) -> AsyncGenerator[Client]:
    async with (
        httpx2.AsyncClient(headers=bearer(token)) as http,
        Client(streamable_http_client(f"http://127.0.0.1:{gateway.port}/mcp", http_client=http), mode=era) as one,
    ):
        yield one


def challenge(response: httpx.Response) -> dict[str, str]:
    return dict(re.findall(r'(\w+)="([^"]*)"', response.headers["www-authenticate"]))


# --- keys and tokens --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
async def test_a_key_and_a_token_are_taken(gateway: Served, issuer: Issuer, era: str) -> None:
    for token in ("sesame", issuer.token(scope="vault:open")):
        async with client(gateway, era, token) as one:
            assert (await one.call_tool("echo", {"text": "a"})).structured_content == {"echo": "a"}
            by = (await one.call_tool("vault", {})).structured_content
    assert by == {"by": "alice"}


async def test_who_has_none_is_told_where_to_get_one_and_which(gateway: Served) -> None:
    response = await modern(gateway)
    is_problem(response, 401, "unauthenticated")
    told = challenge(response)
    assert told["resource_metadata"] == f"http://127.0.0.1:{gateway.port}{METADATA}/mcp"
    assert told["scope"] == "vault:open"
    assert "error" not in told


@pytest.mark.parametrize(
    "claims", [{"aud": "another"}, {"exp": 1}, {"iss": "http://evil.example"}, {"aud": None}, {"exp": None}], ids=str
)
async def test_a_token_for_somebody_else_or_of_yesterday_is_refused(
    gateway: Served, issuer: Issuer, claims: dict[str, Any]
) -> None:
    response = await modern(gateway, **bearer(issuer.token(**claims)))
    is_problem(response, 401, "unauthenticated")
    assert challenge(response)["error"] == "invalid_token"
    assert challenge(response)["resource_metadata"].endswith(f"{METADATA}/mcp")


async def test_a_token_that_allows_too_little_is_told_what_it_needs(gateway: Served, issuer: Issuer) -> None:
    response = await modern(gateway, "vault", **bearer(issuer.token(scope="other")))
    assert response.status_code == 403
    told = challenge(response)
    assert (told["error"], told["scope"]) == ("insufficient_scope", "vault:open")
    assert told["resource_metadata"] == f"http://127.0.0.1:{gateway.port}{METADATA}/mcp"
    assert response.json()["id"] == 1
    assert "vault:open" in response.json()["error"]["message"]


@pytest.mark.parametrize("path", ["", "/mcp"])
async def test_the_metadata_names_the_resource_exactly(gateway: Served, issuer: Issuer, path: str) -> None:
    document = (await gateway.client.get(METADATA + path)).json()
    assert document["resource"] == f"http://127.0.0.1:{gateway.port}{path}"
    assert document["authorization_servers"] == [issuer.url]


# --- sessions ---------------------------------------------------------------------------------------------------------


async def test_a_session_is_for_who_opened_it(gateway: Served, issuer: Issuer) -> None:
    alice, bob = bearer(issuer.token()), bearer(issuer.token(sub="bob"))
    message = json.loads(opening(At("x")).partition(b"\r\n\r\n")[2])
    session = (await post(gateway, message, **alice)).headers["mcp-session-id"]
    about = {"Mcp-Session-Id": session, "MCP-Protocol-Version": LEGACY}
    for method in ("GET", "DELETE"):
        stolen = await gateway.client.request(method, "/mcp", headers={**HEADERS, **about, **bob})
        assert stolen.status_code == 404
    assert (await post(gateway, old_call(), **about, **bob)).status_code == 404
    assert (await post(gateway, old_call(), **about)).status_code == 401
    assert "hello" in (await post(gateway, old_call(), **about, **alice)).text
    assert (await gateway.client.delete("/mcp", headers={**HEADERS, **about, **alice})).status_code == 200
    assert (await post(gateway, old_call(), **about, **alice)).status_code == 404


async def test_keys_of_two_callers_are_two_callers(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys: list[str] = []
    with KeyFile(path).editing() as records:
        for name in ("alice", "bob"):
            key, record = new_key(Principal(name, frozenset()), None)
            keys.append(key)
            records.append(record)
    async with served(Echo("echo"), keys_file=str(path)) as gateway:
        message = json.loads(opening(At("x")).partition(b"\r\n\r\n")[2])
        session = (await post(gateway, message, **bearer(keys[0]))).headers["mcp-session-id"]
        about = {"Mcp-Session-Id": session, "MCP-Protocol-Version": LEGACY}
        assert (await post(gateway, old_call(), **about, **bearer(keys[1]))).status_code == 404
        assert (await post(gateway, old_call(), **about, **bearer(keys[0]))).status_code == 200


# --- OAuth clients ----------------------------------------------------------------------------------------------------


class _Storage(TokenStorage):
    """Of a client that is registered, and has no token."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.information: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.information

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.information = client_info


async def test_the_sdk_s_oauth_client_finds_the_issuer_and_asks_for_what_is_needed(gateway: Served, issuer: Issuer) -> None:
    issuer.documents[OAUTH] = {
        "issuer": issuer.url,
        "authorization_endpoint": f"{issuer.url}/authorize",
        "token_endpoint": f"{issuer.url}/token",
        "registration_endpoint": f"{issuer.url}/register",
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
    }
    asked: list[str] = []

    async def redirect(url: str) -> None:
        asked.append(url)
        raise RuntimeError("as far as a program comes")

    url = f"http://127.0.0.1:{gateway.port}/mcp"
    storage = _Storage()
    uris = [AnyUrl("http://127.0.0.1:1/callback")]
    storage.information = OAuthClientInformationFull(client_id="a-client", redirect_uris=uris, issuer=issuer.url)
    about = OAuthClientMetadata(redirect_uris=uris)

    async def never() -> AuthorizationCodeResult:
        raise NotImplementedError

    provider = OAuthClientProvider(url, about, storage, redirect_handler=redirect, callback_handler=never)
    async with httpx2.AsyncClient(auth=provider) as http:
        with pytest.raises(Exception, match="as far as"):
            await http.post(url, json={}, headers=HEADERS)
    (first,) = asked
    query = httpx2.URL(first).params
    assert first.startswith(f"{issuer.url}/authorize")
    assert query["scope"] == "vault:open"
    assert query["resource"] == url
    assert query["code_challenge_method"] == "S256"


@pytest.mark.network
@pytest.mark.timeout(900)
async def test_mcp_remote_comes_in_with_a_header(gateway: Served, tmp_path: Path) -> None:
    await anyio.to_thread.run_sync(node.required)
    command, *program = node.command("mcp-remote", "mcp-remote")
    url = f"http://127.0.0.1:{gateway.port}/mcp"
    arguments = [*program, url, "--header", "Authorization:${AUTH}", "--allow-http", "--transport", "http-only"]
    environ = node.environment(AUTH="Bearer sesame", MCP_REMOTE_CONFIG_DIR=str(tmp_path))
    with anyio.fail_after(90):
        async with Client(stdio_client(StdioServerParameters(command=command, args=arguments, env=environ)), mode="legacy") as one:
            result = await one.call_tool("echo", {"text": "from afar"})
    assert result.structured_content == {"echo": "from afar"}


# --- nothing is passed on ---------------------------------------------------------------------------------------------


class Caller(AgentProcess):
    """Calls a tool of an external server."""

    @operation
    async def relay(self) -> Any:
        """Call it."""
        return str(await self.tools.get("mcp://recorder/echo").execute(text="hello"))


class _Recorder:
    """Notes the headers of every request."""

    seen: ClassVar[list[dict[str, str]]] = []

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.seen.append({name.decode(): value.decode("latin-1") for name, value in scope["headers"]})
        await self._app(scope, receive, send)


@pytest.mark.parametrize("transport", ["streamable_http", "sse"])
async def test_no_credential_of_a_caller_is_passed_on_to_an_external_server(issuer: Issuer, transport: Any) -> None:
    _Recorder.seen.clear()
    token = issuer.token()
    async with served(Echo("echo"), middleware=[_Recorder], mcp_sse=True, patience=60) as upstream:
        path = "/mcp/sse" if transport == "sse" else "/mcp"
        config = MCPServerConfig("recorder", url=f"http://127.0.0.1:{upstream.port}{path}", transport=transport)
        supervisor, tools = build_upstreams([config])
        runtime = Runtime(Supervisor("root", children=[supervisor, Caller("caller")]), tool_registry=tools)
        settings = GatewayConfig(port=0, jwt_issuer=issuer.url, jwt_audience=AUDIENCE, api_key="sesame")
        async with listening(create_app(runtime, settings), settings) as gateway:
            for credential in ("sesame", token):
                for headers in (bearer(credential), {"x-api-key": credential, "cookie": f"key={credential}"}):
                    response = await modern(gateway, "caller", **headers)
                    assert "hello" in response.text, response.text
    assert len(_Recorder.seen) >= 4
    for headers in _Recorder.seen:
        assert not headers.keys() & {"authorization", "x-api-key", "cookie"}
        assert "sesame" not in str(headers)
        assert token not in str(headers)


# --- hosts and prefixes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
async def test_it_accepts_the_hosts_that_it_is_told_to_and_no_others(era: str) -> None:
    async with served(Echo("echo"), allowed_hosts=["gw.example", "other.example:8443"]) as gateway:
        url = f"http://127.0.0.1:{gateway.port}/mcp"
        for host, works in (
            ("gw.example", True),
            ("gw.example:443", True),
            ("GW.example", True),
            ("other.example:8443", True),
            ("other.example", False),
            ("gw.example.evil.example", False),
            ("gw.example:1.evil.com", False),
            ("evil@gw.example", False),
            (f"127.0.0.1:{gateway.port}", False),
        ):
            async with httpx2.AsyncClient(headers={"host": host}) as http:
                try:
                    async with Client(streamable_http_client(url, http_client=http), mode=era) as one:
                        assert (await one.call_tool("echo", {"text": "a"})).structured_content == {"echo": "a"}
                except* MCPError:
                    assert not works, host
                else:
                    assert works, host


async def test_behind_a_proxy_the_metadata_says_what_the_public_address_is(issuer: Issuer) -> None:
    public = "https://gw.example/agents"
    settings: dict[str, Any] = {
        "jwt_issuer": issuer.url,
        "jwt_audience": AUDIENCE,
        "public_url": public,
        "allowed_hosts": ["gw.example", "127.0.0.1"],
    }
    async with served(Echo("echo"), **settings, mcp_path="/v1/mcp") as gateway:
        forged = {
            "x-forwarded-host": "evil.example",
            "x-forwarded-proto": "http",
            "x-forwarded-prefix": "/evil",
            "forwarded": "host=e",
        }
        response = await post(gateway, {}, "/v1/mcp", **forged)
        assert response.status_code == 401
        assert challenge(response)["resource_metadata"] == f"{public}{METADATA}/v1/mcp"
        document = (await gateway.client.get(f"{METADATA}/v1/mcp", headers=forged)).json()
        assert document["resource"] == f"{public}/v1/mcp"
        assert (await post(gateway, {}, "/v1/mcp", origin="https://gw.example")).status_code == 401
        assert (await post(gateway, {}, "/v1/mcp", origin="https://evil.example")).status_code == 403
