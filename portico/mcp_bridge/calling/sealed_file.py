"""SealedFile: a few secrets of one server at rest: encrypted, bound to that server, and readable by the gateway's user only.

AES-256-GCM under a key that is derived from `mcp.secret_key` (HKDF, RFC 5869), or, where none is given, from a random file beside
(0600). With a key of one's own, a stolen disk or backup shows no token. With the file beside, that holds only where the file is not
in what was stolen. Neither protects from who can read the memory of the gateway, or run programs as its user.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from portico.errors import ConfigurationError
from portico.whole_file import locked, replace_file

if TYPE_CHECKING:
    from portico.mcp_bridge.config import MCPServerConfig

DIRECTORY: Final = "tokens"
"""Below the directory of the bridge."""
KEY_FILE: Final = "key"
"""Beside it, where no key is given."""
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
"""A new random one for each write (NIST SP 800-38D §8.2.2)."""


class SealedFile:
    """What is kept for one server; in memory only where it has no directory."""

    def __init__(self, config: MCPServerConfig) -> None:
        directory = Path(config.state_dir) if config.state_dir is not None else None
        self.path = directory / DIRECTORY / config.name if directory is not None else None
        self._key_path = directory / KEY_FILE if directory is not None else None
        self._secret = config.secret_key
        self._whose = f"{config.name}\0{config.url}".encode()  # at another address it is another server
        self._held: dict[str, Any] = {}

    def __repr__(self) -> str:
        return "SealedFile(…)"

    def read(self) -> dict[str, Any]:
        """What was kept; empty where nothing was. Raises `ConfigurationError` where it cannot be read."""
        if self.path is None:
            return self._held
        try:
            sealed = self.path.read_bytes()
            text = AESGCM(self._key()).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], self._whose)
            return cast("dict[str, Any]", json.loads(text))
        except FileNotFoundError:
            return {}
        except (InvalidTag, ValueError, OSError) as error:
            raise ConfigurationError(
                f"The tokens in {self.path} cannot be read ({type(error).__name__}): it is another key, or another url."
            ) from None

    def write(self, held: dict[str, Any]) -> None:
        """Keep it, in place of what was kept. Raises `ConfigurationError`."""
        self._held = held
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            nonce = os.urandom(NONCE_BYTES)
            replace_file(self.path, nonce + AESGCM(self._key()).encrypt(nonce, json.dumps(held).encode(), self._whose))
        except OSError as error:
            raise ConfigurationError(f"The tokens in {self.path} cannot be kept: {error.strerror}.") from None

    def _key(self) -> bytes:
        secret = self._secret.encode() if self._secret is not None else self._key_beside()
        return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"portico mcp tokens").derive(secret)

    def _key_beside(self) -> bytes:
        assert self._key_path is not None  # noqa: S101  # asked for only where there is a directory
        self._key_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(self._key_path):
            if not self._key_path.exists():
                replace_file(self._key_path, os.urandom(KEY_BYTES))
            return self._key_path.read_bytes()
