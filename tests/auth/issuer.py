"""A token issuer on this machine: real keys, a real HTTP server for its metadata and its keys, which it can change."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

if TYPE_CHECKING:
    from collections.abc import Generator

AUDIENCE = "portico-tests"
OPENID = "/.well-known/openid-configuration"
OAUTH = "/.well-known/oauth-authorization-server"
JWKS = "/keys"


def _rsa() -> Any:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


KEYS: dict[str, tuple[str, Any]] = {
    "first": ("RS256", _rsa()),
    "second": ("ES256", ec.generate_private_key(ec.SECP256R1())),
    "third": ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
    "stranger": ("RS256", _rsa()),
}
"""Private keys by their ids, each with its algorithm."""


def public(key_id: str) -> dict[str, Any]:
    """The public half of a key, as a JWKS has it."""
    algorithm, key = KEYS[key_id]
    kind: Any = {"RS": RSAAlgorithm, "ES": ECAlgorithm, "Ed": OKPAlgorithm}[algorithm[:2]]
    return {**kind.to_jwk(key.public_key(), as_dict=True), "kid": key_id, "use": "sig", "alg": algorithm}


class Issuer:
    """What it serves: change `documents`, `keys` and `down` while it runs. `asked` is what it was asked for."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.down = False
        self.cache_control: str | None = None
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.documents: dict[str, Any] = {OPENID: {"issuer": self.url, "jwks_uri": self.url + JWKS}}
        self.publish("first")

    def publish(self, *key_ids: str) -> None:
        """These are its keys from now on."""
        self.documents[JWKS] = {"keys": [public(key_id) for key_id in key_ids]}

    def token(self, *, key_id: str = "first", header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token for an hour; claims that are None are left out."""
        algorithm, key = KEYS[key_id]
        now = int(time.time())
        said = {"iss": self.url, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 3600, **claims}
        wanted = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(wanted, key, algorithm, headers={"kid": key_id, **(header or {})})


@contextmanager
def issuing() -> Generator[Issuer]:
    """An issuer that listens."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # http.server's name
            issuer.asked.append(self.path)
            issuer.gate.wait(20)
            found = None if issuer.down else issuer.documents.get(self.path)
            body = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(503 if issuer.down else 200 if found is not None else 404)
            if issuer.cache_control is not None:
                self.send_header("cache-control", issuer.cache_control)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # http.server's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        issuer = Issuer(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield issuer
        finally:
            issuer.gate.set()
            server.shutdown()
            thread.join()
