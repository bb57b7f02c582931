"""A small OAuth 2.1 authorisation server, and an MCP server that trusts it, on real sockets. Not a test."""

from __future__ import annotations

import base64
import hashlib
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode

import jwt
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from starlette.applications import Starlette
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.mcp_bridge.helpers import free_port, serving

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request


@dataclass
class Authorities:
    """What the authorisation server knows, and what it has seen."""

    issuer: str
    url: str
    clients: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    codes: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    tokens: set[str] = field(default_factory=set[str])
    refreshing: dict[str, str] = field(default_factory=dict[str, str])
    seen: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    registered: int = 0
    lasts: int = 3600
    key: Any = None
    broken: bool = False

    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "registration_endpoint": f"{self.issuer}/register",
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "client_id_metadata_document_supported": True,
            "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"],
        }

    def give(self, client: str, *, refresh: bool) -> dict[str, Any]:
        token = f"secret-token-{secrets.token_hex(8)}"
        self.tokens.add(token)
        given: dict[str, Any] = {"access_token": token, "token_type": "Bearer", "expires_in": self.lasts}
        if refresh:
            given["refresh_token"] = f"secret-refresh-{secrets.token_hex(8)}"
            self.refreshing[given["refresh_token"]] = client
        return given

    async def register(self, request: Request) -> Response:
        asked = await request.json()
        self.registered += 1
        client = {**asked, "client_id": f"client-{self.registered}"}
        self.clients[client["client_id"]] = client
        return JSONResponse(client, 201)

    async def authorize(self, request: Request) -> Response:
        """Whoever comes consents."""
        asked = dict(request.query_params)
        code = secrets.token_hex(8)
        self.codes[code] = asked
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}", 302)

    async def token(self, request: Request) -> Response:
        asked = {key: values[0] for key, values in parse_qs((await request.body()).decode()).items()}
        self.seen.append({**asked, "authorization": request.headers.get("authorization", "")})
        if self.broken:
            return JSONResponse({"error": "server_error", "error_description": f"I know {asked}"}, 500)
        match asked["grant_type"]:
            case "authorization_code":
                return self._by_code(asked)
            case "refresh_token":
                client = self.refreshing.pop(asked["refresh_token"], None)
                return JSONResponse(self.give(client, refresh=True)) if client else JSONResponse({"error": "invalid_grant"}, 400)
            case "client_credentials":
                return self._by_credentials(asked, request.headers.get("authorization", ""))
            case _:
                good = asked["assertion"] == "token-of-the-platform"
                return JSONResponse(self.give("workload", refresh=False)) if good else JSONResponse({"error": "invalid_grant"}, 400)

    def _by_code(self, asked: dict[str, str]) -> Response:
        begun = self.codes.pop(asked["code"], None)
        digest = base64.urlsafe_b64encode(hashlib.sha256(asked["code_verifier"].encode()).digest()).decode().rstrip("=")
        if begun is None or begun["code_challenge"] != digest or begun["redirect_uri"] != asked["redirect_uri"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        return JSONResponse(self.give(begun["client_id"], refresh=True))

    def _by_credentials(self, asked: dict[str, str], header: str) -> Response:
        if "client_assertion" in asked:
            claims = jwt.decode(asked["client_assertion"], self.key, ["RS256"], audience=self.issuer)
            return JSONResponse(self.give(claims["sub"], refresh=False))
        basic = base64.b64encode(b"me:secret-of-mine").decode()
        good = header == f"Basic {basic}" or (asked.get("client_id"), asked.get("client_secret")) == ("me", "secret-of-mine")
        return JSONResponse(self.give("me", refresh=False)) if good else JSONResponse({"error": "invalid_client"}, 401)

    async def verify_token(self, token: str) -> AccessToken | None:
        """See the SDK's `TokenVerifier`."""
        return AccessToken(token=token, client_id="somebody", scopes=["tools"], resource=self.url) if token in self.tokens else None


@asynccontextmanager
async def authorities(**options: Any) -> AsyncGenerator[Authorities]:
    """The two servers. `url` is that of the MCP server."""
    port, other = free_port(), free_port()
    known = Authorities(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{other}/mcp", **options)

    async def metadata(request: Request) -> Response:
        del request
        return JSONResponse(known.metadata())

    routes = [
        Route("/.well-known/oauth-authorization-server", metadata),
        Route("/register", known.register, methods=["POST"]),
        Route("/authorize", known.authorize),
        Route("/token", known.token, methods=["POST"]),
    ]
    auth = AuthSettings.model_validate(
        {
            "issuer_url": known.issuer,
            "resource_server_url": known.url,
            "required_scopes": ["tools"],
            "validate_token_resource": True,
        }
    )
    server = MCPServer("guarded", token_verifier=known, auth=auth, log_level="ERROR")

    @server.tool(structured_output=False)
    def secret() -> str:
        """Only for the authorised."""
        return "the treasure"

    app = server.streamable_http_app()
    async with serving(Starlette(routes=routes), port), serving(app, other):
        yield known
