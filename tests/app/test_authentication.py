"""A gateway with a key: what is behind it, what is open, and that the key shows nowhere."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import PromptReference, ResourceTemplateReference

from portico.app.factory import create_app
from portico.app.settings import GatewayConfig
from portico.auth.api_key import new_key
from portico.auth.key_file import KeyFile
from portico.auth.principal import Authenticator, Principal
from portico.auth.shared_key import SharedKey
from portico.errors import ConfigurationError
from portico.kernel.process import AgentProcess
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation, prompt, resource
from portico.routes.authentication import Authentication
from portico.routes.exchange import PRINCIPAL, SCOPES
from portico.topology.runtime import Runtime
from tests.app.serving import ANY_PORT, is_problem, listening, served
from tests.auth.issuer import AUDIENCE, Issuer, issuing
from tests.routes.agents import Echo, Mirror

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    import httpx

    from tests.app.serving import Served

pytestmark = pytest.mark.anyio

KEY = "a-key-of-the-tests"
RIGHT = {"authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
async def locked(anyio_backend: object) -> AsyncGenerator[Served]:
    routes = [{"method": "GET", "path": "/say/{text}", "agent": "echo"}]
    agents = (Echo("echo", expose=True), Mirror("mirror", expose=True))
    async with served(*agents, patience=None, api_key=KEY, routes=routes) as one:
        yield one


BEHIND = [
    ("GET", "/agents"),
    ("GET", "/agents/echo"),
    ("GET", "/agents/echo/state"),
    ("GET", "/say/hello"),
    ("POST", "/agents/mirror"),
    ("POST", "/agents/mirror/cast"),
    ("GET", "/runs"),
    ("GET", "/runs/x"),
    ("GET", "/runs/x/events"),
    ("POST", "/runs/x/cancel"),
    ("GET", "/openapi.json"),
    ("GET", "/problems"),
    ("GET", "/mcp"),
    ("POST", "/mcp"),
    ("DELETE", "/mcp"),
    ("GET", "/nowhere"),
    ("OPTIONS", "/agents/echo"),
    ("GET", "/livez//"),
    ("GET", "/livez/agents"),
    ("GET", "/agents/"),
    ("GET", "/agents%2Fecho"),
    ("GET", "/docs/assets"),
    ("GET", "/docs/assets/../../agents"),
    ("GET", "//docs"),
]


@pytest.mark.parametrize(("method", "path"), BEHIND)
@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic YTpi", f"Token {KEY}"])
async def test_everything_is_behind_the_key(locked: Served, method: str, path: str, header: str | None) -> None:
    headers = {"authorization": header} if header is not None else {}
    response = await locked.client.request(method, path, headers=headers)

    is_problem(response, 401, "unauthenticated")
    sent = header is not None and header.startswith("Bearer")
    wrong = ', error="invalid_token", error_description="The key or token is not valid."' if sent else ""
    assert response.headers["www-authenticate"] == f'Bearer realm="portico"{wrong}'


async def test_the_key_is_for_its_headers_alone(locked: Served) -> None:
    headers = {"cookie": f"api_key={KEY}", "api-key": KEY, "proxy-authorization": f"Bearer {KEY}"}
    response = await locked.client.get("/agents", params={"api_key": KEY, "key": KEY, "access_token": KEY}, headers=headers)

    is_problem(response, 401, "unauthenticated")


@pytest.mark.parametrize(
    "path", ["/agents", "/agents/echo", "/agents/echo/state", "/say/hello", "/runs", "/openapi.json", "/problems"]
)
async def test_the_right_key_opens_it(locked: Served, path: str) -> None:
    assert (await locked.client.get(path, headers=RIGHT)).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/livez", "/readyz", "/startupz", "/healthz", "/docs", "/redoc", "/docs/assets/docs.js", "/livez/", "/docs/", "/redoc/"],
)
async def test_probes_and_pages_are_open(locked: Served, path: str) -> None:
    assert (await locked.client.get(path)).status_code == 200


async def test_only_who_has_the_key_reads_what_the_probes_know(locked: Served) -> None:
    assert (await locked.client.get("/readyz?verbose")).json() == {"status": "ok"}
    assert "echo" in (await locked.client.get("/readyz?verbose", headers=RIGHT)).json()["processes"]


async def test_a_body_is_not_read_before_the_key_is(locked: Served) -> None:
    response = await locked.client.post("/agents/echo", content=b"{" * 5_000_000)

    is_problem(response, 401, "unauthenticated")


async def test_an_mcp_client_needs_the_key_too(locked: Served) -> None:
    url = f"http://127.0.0.1:{locked.port}/mcp"
    async with httpx2.AsyncClient(headers=RIGHT) as http, Client(streamable_http_client(url, http_client=http)) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}

    assert names == {"echo", "fetch_result", "mirror"}


async def test_a_run_belongs_to_who_has_the_key(locked: Served) -> None:
    run = (await locked.client.post("/agents/mirror/cast", headers=RIGHT)).headers["location"]

    assert (await locked.client.get(run, headers=RIGHT)).status_code == 200
    assert (await locked.client.get(run)).status_code == 401


async def test_the_document_says_that_the_key_is_needed(locked: Served) -> None:
    document = (await locked.client.get("/openapi.json", headers=RIGHT)).json()

    assert document["security"] == [{"bearer": []}, {"apiKey": []}]
    assert document["paths"]["/livez"]["get"]["security"] == []
    assert "401" in document["paths"]["/agents/echo"]["post"]["responses"]


async def test_the_key_is_in_no_log_and_no_printed_object(locked: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await locked.client.post("/agents/echo", json={}, headers=RIGHT)
    await locked.client.get("/agents", headers={"authorization": f"Bearer {KEY}x"})
    everything = [locked.gateway, locked.gateway.settings, locked.app, locked.server.config, locked.app.user_middleware]
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]  # the client logs its own

    assert KEY not in repr(everything)
    assert KEY not in "".join(ours)


@pytest.mark.parametrize("key", ["", " ", "\n"])
def test_a_blank_key_is_refused_since_everybody_has_it(key: str) -> None:
    with pytest.raises(ConfigurationError, match="blank"):
        GatewayConfig(api_key=key)


# --- several callers --------------------------------------------------------------------------------------------------


class Whoami(AgentProcess):
    @operation
    async def open(self) -> str:
        return "for everybody"

    @operation(scopes=["read", "write"])
    async def guarded(self) -> str:
        return "for some"


class Archive(AgentProcess):
    @operation(scopes=["read"])
    @resource("archive://{shelf}/secret")
    async def secret(self, shelf: Literal["a", "b"]) -> str:
        return f"for some: {shelf}"

    @operation(scopes=["read"])
    @prompt(name="secret")
    async def words(self, shelf: Literal["a", "b"]) -> str:
        return f"for some: {shelf}"


@dataclass(frozen=True, slots=True)
class House:
    """A gateway with several callers: keys of a file, tokens of an issuer."""

    gateway: Served
    issuer: Issuer
    keys: dict[str, str]

    async def get(self, path: str, key: str | None = None) -> httpx.Response:
        return await self.gateway.client.get(path, headers=_bearer(key))

    async def post(self, path: str, key: str | None = None, **more: Any) -> httpx.Response:
        return await self.gateway.client.post(path, headers=_bearer(key), **more)


def _bearer(key: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key is not None else {}


@pytest.fixture(scope="module")
async def house(anyio_backend: object, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[House]:
    file = KeyFile(tmp_path_factory.mktemp("keys") / "keys.json")
    scopes = {"none": set[str](), "read": {"read"}, "both": {"read", "write"}, "admin": {"admin"}, "all": {"*"}}
    keys: dict[str, str] = {}
    with file.editing() as records:
        for name, allowed in scopes.items():
            keys[name], record = new_key(Principal(name, frozenset(allowed)))
            records.append(record)
    with issuing() as issuer:
        settings: dict[str, Any] = {
            "keys_file": str(file.path),
            "jwt_issuer": issuer.url,
            "jwt_audience": f"{AUDIENCE} other",
            "api_key": KEY,
        }
        routes = [{"method": "POST", "path": "/{a}/{b}", "agent": "echo"}, {"method": "GET", "path": "/{a}", "agent": "echo"}]
        agents = (
            Echo("echo", expose=True),
            Whoami("whoami", expose=True),
            Mirror("mirror", expose=True),
            Archive("archive", expose=True),
        )
        async with served(*agents, patience=None, routes=routes, **settings) as gateway:
            yield House(gateway, issuer, keys)


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
async def test_each_key_is_a_caller_of_its_own(house: House, header: str) -> None:
    client = house.gateway.client
    sent = {name: {header: ("Bearer " if header == "authorization" else "") + key} for name, key in house.keys.items()}
    run = (await client.post("/agents/mirror/cast", headers=sent["read"])).headers["location"]

    assert (await client.get(run, headers=sent["read"])).status_code == 200
    is_problem(await client.get(run, headers=sent["both"]), 404, "run-not-found")


async def test_the_shared_key_may_do_everything(house: House) -> None:
    assert (await house.post("/agents/whoami/guarded", KEY)).status_code == 200
    assert (await house.get("/agents/echo/state", KEY)).status_code == 200


@pytest.mark.parametrize(("name", "status"), [("none", 403), ("read", 403), ("admin", 403), ("both", 200), ("all", 200)])
async def test_an_operation_is_for_those_with_all_of_its_scopes(house: House, name: str, status: int) -> None:
    asked = await house.post("/agents/whoami/guarded", house.keys[name])
    sent = await house.post("/agents/whoami/guarded/cast", house.keys[name])
    run = await house.post("/runs", house.keys[name], json={"agent": "whoami", "operation": "guarded"})

    assert [asked.status_code, sent.status_code, run.status_code] == [status, *([202, 202] if status == 200 else [403, 403])]
    if status == 403:
        is_problem(asked, 403, "insufficient-scope")
        assert asked.headers["www-authenticate"] == 'Bearer realm="portico", error="insufficient_scope", scope="read write"'
    assert (await house.post("/agents/whoami/open", house.keys[name])).status_code == 200


async def test_a_tool_is_for_those_with_its_scopes_too(house: House) -> None:
    url = f"http://127.0.0.1:{house.gateway.port}/mcp"
    said: dict[str, str] = {}
    for name in ("read", "both"):
        headers = _bearer(house.keys[name])
        async with httpx2.AsyncClient(headers=headers) as http, Client(streamable_http_client(url, http_client=http)) as client:
            said[name] = str((await client.call_tool("whoami-guarded", {})).content)

    assert "insufficient-scope" in said["read"] or "needs the scope" in said["read"]
    assert "for some" in said["both"]


async def test_what_is_read_and_prompts_are_there_for_those_with_their_scopes(house: House) -> None:
    url = f"http://127.0.0.1:{house.gateway.port}/mcp"
    template, words = ResourceTemplateReference(uri="archive://{shelf}/secret"), PromptReference(name="secret")
    headers = {name: _bearer(house.keys[name]) for name in ("none", "read")}
    async with (
        httpx2.AsyncClient(headers=headers["read"]) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        assert template.uri in [one.uri_template for one in (await client.list_resource_templates()).resource_templates]
        assert [one.name for one in (await client.list_prompts()).prompts] == ["secret"]
        assert "for some: b" in str((await client.read_resource("archive://b/secret")).contents)
        assert "for some: b" in str((await client.get_prompt("secret", {"shelf": "b"})).messages)
        for reference in (template, words):
            assert (await client.complete(reference, {"name": "shelf", "value": ""})).completion.values == ["a", "b"]
    async with (
        httpx2.AsyncClient(headers=headers["none"]) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        assert template.uri not in [one.uri_template for one in (await client.list_resource_templates()).resource_templates]
        assert (await client.list_prompts()).prompts == []
        for hidden in (
            client.read_resource("archive://b/secret"),
            client.get_prompt("secret", {"shelf": "b"}),
            client.complete(template, {"name": "shelf", "value": ""}),
            client.complete(words, {"name": "shelf", "value": ""}),
        ):
            with pytest.raises(MCPError, match="There is no"):
                await hidden
        async with client.listen(resource_subscriptions=["archive://b/secret", "portico://agents"]) as heard:
            assert heard.honored.resource_subscriptions == ["portico://agents"]


async def test_over_http_a_resource_and_a_prompt_are_operations_like_any_other(house: House) -> None:
    key = house.keys["read"]
    read = await house.post("/agents/archive/secret", key, json={"shelf": "a"})
    refused = await house.post("/agents/archive/words", house.keys["none"], json={"shelf": "a"})
    assert read.json() == "for some: a"
    is_problem(refused, 403, "insufficient-scope")


@pytest.mark.parametrize(("name", "status"), [("none", 403), ("both", 403), ("admin", 200), ("all", 200)])
async def test_states_are_for_admins(house: House, name: str, status: int) -> None:
    assert (await house.get("/agents/echo/state", house.keys[name])).status_code == status
    assert (await house.get("/agents", house.keys[name])).status_code == 200


async def test_a_token_of_the_issuer_is_a_caller_with_its_scopes(house: House) -> None:
    some, many = house.issuer.token(scope="read"), house.issuer.token(scope="read write admin", sub="bob")

    assert (await house.post("/agents/whoami/open", some)).status_code == 200
    is_problem(await house.post("/agents/whoami/guarded", some), 403, "insufficient-scope")
    assert (await house.post("/agents/whoami/guarded", many)).status_code == 200
    assert (await house.get("/agents/echo/state", many)).status_code == 200
    run = (await house.post("/agents/mirror/cast", many)).headers["location"]
    is_problem(await house.get(run, some), 404, "run-not-found")
    assert (await house.get(run, house.issuer.token(sub="bob"))).status_code == 200


async def test_a_client_without_credentials_learns_where_to_get_a_token(house: House) -> None:
    base = f"http://127.0.0.1:{house.gateway.port}"
    for path, place in (("/agents", ""), ("/mcp", "/mcp")):
        challenge = (await house.get(path)).headers["www-authenticate"]
        url = f"{base}/.well-known/oauth-protected-resource{place}"
        needed = ', scope="read write"' if place else ""
        assert challenge == f'Bearer realm="portico", resource_metadata="{url}"{needed}'
        described = (await house.get(url)).json()
        assert described == {
            "resource": base + place,
            "resource_name": "Portico",
            "authorization_servers": [house.issuer.url],
            "bearer_methods_supported": ["header"],
            "scopes_supported": ["admin", "read", "write"],
        }
    is_problem(await house.get("/.well-known/oauth-protected-resource/elsewhere"), 404, "not-found")


async def test_a_token_that_is_not_valid_is_told_why(house: House) -> None:
    response = await house.get("/agents", house.issuer.token(aud="somebody-else"))

    is_problem(response, 401, "unauthenticated")
    said = response.headers["www-authenticate"]
    assert said.startswith(
        'Bearer realm="portico", error="invalid_token", error_description="The token is not valid: it is for another audience."'
    )
    assert "resource_metadata=" in said


async def test_no_answer_tells_which_keys_there_are(house: House) -> None:
    key = house.keys["all"]
    answers = [
        await house.get("/agents", wrong)
        for wrong in (key[:-1], key[:-1] + "!", new_key(Principal("x", frozenset()))[0], "portico_", "x")
    ]
    seen = {(one.status_code, one.headers["www-authenticate"], one.json()["detail"]) for one in answers}

    assert len(seen) == 1


@pytest.mark.parametrize("path", ["/livez", "/docs", "/docs/assets/docs.js", "/.well-known/oauth-protected-resource"])
@pytest.mark.parametrize("wrong", ["wrong", "a.b.c"])
async def test_what_is_open_is_open_with_wrong_credentials_too(house: House, path: str, wrong: str) -> None:
    response = await house.get(path, wrong)

    assert response.status_code == 200
    assert "echo" not in response.text


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/docs", "/redoc", "/docs/x", "/.well-known/oauth-protected-resource"])
async def test_no_route_of_an_agent_takes_what_is_open(house: House, path: str) -> None:
    response = await house.post(path, json={"text": "in"})

    assert response.status_code in (401, 404, 405)
    assert "in" not in response.text.split('"detail"')[0]
    assert (await house.post("/any/thing", house.keys["none"], json={"text": "in"})).status_code == 200


async def test_dead_letters_of_everybody_are_for_admins(anyio_backend: object, tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.json")
    keys: dict[str, str] = {}
    with file.editing() as records:
        for name, allowed in {"alice": set[str](), "bob": set[str](), "root": {"admin"}}.items():
            keys[name], record = new_key(Principal(name, frozenset(allowed)))
            records.append(record)
    async with served(Flaky("flaky", expose=True), keys_file=str(file.path)) as gateway:
        made = await gateway.client.post("/runs", json={"agent": "flaky"}, headers=_bearer(keys["alice"]))
        assert (await gateway.client.get(f"{made.headers['location']}?wait=15", headers=_bearer(keys["alice"]))).status_code == 200
        listed = {
            name: [one["id"] for one in (await gateway.client.get("/dead-letters", headers=_bearer(key))).json()["dead_letters"]]
            for name, key in keys.items()
        }
        letter = made.json()["run_id"]
        assert listed == {"alice": [letter], "bob": [], "root": [letter]}

        is_problem(await gateway.client.post(f"/dead-letters/{letter}/redrive", headers=_bearer(keys["bob"])), 404, "run-not-found")
        again = await gateway.client.post(f"/dead-letters/{letter}/redrive", headers=_bearer(keys["root"]))
        assert again.status_code == 202
        assert (await gateway.client.get(again.headers["location"], headers=_bearer(keys["alice"]))).status_code == 200


class Flaky(AgentProcess):
    @operation(idempotent=False)
    async def fall(self) -> str:
        raise RuntimeError("on purpose")


async def test_without_an_issuers_keys_a_token_is_asked_to_come_again(house: House) -> None:
    with issuing() as dead:
        dead.down = True
        async with served(Echo("echo"), jwt_issuer=dead.url, jwt_audience=AUDIENCE) as gateway:
            response = await gateway.client.get("/agents", headers=_bearer(dead.token()))
            is_problem(response, 503, "auth-unavailable")
            assert 1 <= int(response.headers["retry-after"]) <= 10
            assert (await gateway.client.get("/livez", headers=_bearer(dead.token()))).status_code == 200
            is_problem(await gateway.client.get("/agents", headers=_bearer("a-key")), 401, "unauthenticated")


async def test_without_an_issuer_there_is_nowhere_to_get_a_token(locked: Served) -> None:
    is_problem(await locked.client.get("/.well-known/oauth-protected-resource"), 404, "not-found")
    is_problem(await locked.client.get("/.well-known/oauth-protected-resource/mcp"), 404, "not-found")


async def test_clients_are_told_the_public_url(anyio_backend: object) -> None:
    settings: dict[str, Any] = {
        "jwt_issuer": "https://id.example",
        "jwt_audience": "x",
        "public_url": "https://api.example/gateway/",
    }
    async with served(Echo("echo"), **settings) as gateway:
        url = "https://api.example/gateway/.well-known/oauth-protected-resource"
        assert f'resource_metadata="{url}"' in (await gateway.client.get("/agents")).headers["www-authenticate"]
        assert (await gateway.client.get("/.well-known/oauth-protected-resource/mcp")).json()["resource"].endswith("/gateway/mcp")


async def test_the_document_lists_the_scopes_of_an_operation(house: House) -> None:
    document = (await house.get("/openapi.json", house.keys["none"])).json()
    guarded, free = (document["paths"][f"/agents/whoami/{name}"]["post"] for name in ("guarded", "open"))

    assert guarded["security"] == [{"bearer": ["read", "write"]}, {"apiKey": ["read", "write"]}]
    assert "403" in guarded["responses"]
    assert "security" not in free
    assert "insufficient-scope" not in str(free["responses"]["403"])  # a foreign Origin is forbidden everywhere
    assert document["components"]["securitySchemes"]["apiKey"]["name"] == "X-API-Key"


async def test_the_key_file_of_the_data_directory_is_found(anyio_backend: object, tmp_path: Path) -> None:
    with KeyFile(tmp_path / "keys.json").editing() as records:
        key, record = new_key(Principal("alice", frozenset()))
        records.append(record)
    runtime = Runtime(Supervisor("root", children=[Echo("echo")]), data=tmp_path)
    async with asyncio.timeout(20), listening(create_app(runtime, ANY_PORT)) as gateway:
        is_problem(await gateway.client.get("/agents"), 401, "unauthenticated")
        assert (await gateway.client.get("/agents", headers=_bearer(key))).status_code == 200


# --- WebSocket handshakes ---------------------------------------------------------------------------------------------


async def handshake(
    authentication: Authentication, *, headers: dict[str, str] | None = None, offered: list[str] | None = None, whole: bool = True
) -> list[dict[str, Any]]:
    """What a WebSocket application answers: what the inner one saw, or the refusal."""
    said: list[dict[str, Any]] = []
    scope: dict[str, Any] = {
        "type": "websocket",
        "path": "/agents/echo/ws",
        "root_path": "",
        "scheme": "ws",
        "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
        "subprotocols": offered or [],
        "extensions": {"websocket.http.response": {}} if whole else {},
    }

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        said.append(message)

    await authentication(scope, receive, send)
    return said


async def _inner(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "accepted", **{name: scope[name] for name in (PRINCIPAL, SCOPES, "subprotocols")}})


@pytest.fixture
def guard() -> Authentication:
    return Authentication(_inner, Authenticator([SharedKey(KEY)]), (), ("/docs/",))


ACCEPTED = {"type": "accepted", PRINCIPAL: "api-key", SCOPES: frozenset({"*"})}


async def test_a_websocket_carries_its_key_in_a_header_or_a_subprotocol(guard: Authentication) -> None:
    assert await handshake(guard, headers=RIGHT) == [{**ACCEPTED, "subprotocols": []}]
    assert await handshake(guard, headers={"x-api-key": KEY}) == [{**ACCEPTED, "subprotocols": []}]
    offered = ["portico.v1", f"portico.bearer.{KEY}"]
    assert await handshake(guard, offered=offered) == [{**ACCEPTED, "subprotocols": ["portico.v1"]}]


async def test_a_websocket_is_refused_before_it_is_accepted(guard: Authentication) -> None:
    start, body = await handshake(guard, offered=["portico.bearer.wrong"])
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
    assert (b"www-authenticate", b'Bearer realm="portico"') not in start["headers"]  # it says what was wrong
    assert body["type"] == "websocket.http.response.body"
    assert b"/problems/unauthenticated" in body["body"]
    assert await handshake(guard, whole=False) == [{"type": "websocket.close", "code": 1008, "reason": "Authentication required"}]
