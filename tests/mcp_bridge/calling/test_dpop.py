"""DPoP: tokens are bound to a key; each request proves it anew, with the nonce that the server wants (RFC 9449)."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

import httpx2
import jwt
import pytest

from portico.mcp_bridge.calling.dpop import DPoPAuth
from portico.mcp_bridge.calling.workload import WorkloadAuth

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio

ISSUER = "https://as.example"


class Authority:
    """An authorisation server and an MCP server in one, which check every proof, and want a nonce each."""

    def __init__(self) -> None:
        self.jtis: list[str] = []
        self.challenged: list[str] = []
        self.tokens: list[str] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path.startswith("/.well-known"):
            about = {"issuer": ISSUER, "authorization_endpoint": f"{ISSUER}/a", "token_endpoint": f"{ISSUER}/token"}
            return httpx2.Response(200, json={**about, "response_types_supported": ["code"]})
        if request.url.path == "/token":
            if self._proved(request, None) is None:
                return httpx2.Response(400, json={"error": "use_dpop_nonce"}, headers={"dpop-nonce": "of-the-as"})
            self.tokens.append(f"token-{len(self.tokens)}")
            return httpx2.Response(200, json={"access_token": self.tokens[-1], "token_type": "DPoP"})
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if token not in self.tokens:
            return httpx2.Response(401)
        assert scheme == "DPoP"
        if self._proved(request, token) is None:
            challenge = {"www-authenticate": 'DPoP error="use_dpop_nonce"', "dpop-nonce": "of-the-server"}
            return httpx2.Response(401, headers=challenge)
        return httpx2.Response(200, text="the treasure")

    def _proved(self, request: httpx2.Request, token: str | None) -> str | None:
        """The nonce of a proof that is good; None where it has none."""
        proof = request.headers["dpop"]
        head = jwt.get_unverified_header(proof)
        assert head["typ"] == "dpop+jwt"
        assert set(head["jwk"]) == {"kty", "crv", "x", "y"}  # never the private part
        claims: dict[str, Any] = jwt.decode(proof, jwt.PyJWK({**head["jwk"], "alg": "ES256"}), ["ES256"])
        assert (claims["htm"], claims["htu"]) == (request.method, str(request.url.copy_with(query=None)))
        assert claims["jti"] not in self.jtis
        self.jtis.append(claims["jti"])
        if token is not None:
            digest = base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).decode().rstrip("=")
            assert claims["ath"] == digest
        if "nonce" not in claims:
            self.challenged.append(str(request.url.path))
        return claims.get("nonce")


def client(authority: Callable[[httpx2.Request], httpx2.Response]) -> httpx2.AsyncClient:
    async def assertion() -> str:
        return "token-of-the-platform"

    auth = DPoPAuth(WorkloadAuth("https://mcp.example/mcp", "me", ISSUER, assertion))
    return httpx2.AsyncClient(auth=auth, transport=httpx2.MockTransport(authority))


async def test_each_request_has_a_fresh_proof_and_each_server_its_nonce() -> None:
    authority = Authority()
    async with client(authority) as http:
        for _ in range(3):
            response = await http.post("https://mcp.example/mcp?a=1", json={})
            assert response.text == "the treasure"
    assert authority.challenged == ["/token", "/mcp"]
    assert authority.tokens == ["token-0"]
    assert len(authority.jtis) == 6


async def test_refusal_for_another_reason_is_not_repeated() -> None:
    seen: list[str] = []

    def refusing(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.url.path)
        if request.url.path.startswith("/.well-known"):
            return Authority()(request)
        return httpx2.Response(401, headers={"dpop-nonce": "n"})

    async with client(refusing) as http:
        with pytest.raises(Exception, match="refused the platform's token"):
            await http.post("https://mcp.example/mcp", json={})
    assert seen.count("/token") == 1
