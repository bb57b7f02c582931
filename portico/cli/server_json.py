"""server.json: what the registry of MCP servers is told of one. A pure function; `portico connect registry` prints it or writes it.

The rules are those of the registry's schema of 2025-12-11 (registry.modelcontextprotocol.io).
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlsplit

from portico.errors import ConfigurationError

SCHEMA: Final = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
DESCRIPTION: Final = 100
"""Characters that a description may have."""
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9.-]*\.[a-zA-Z0-9.-]*[a-zA-Z0-9]/[a-zA-Z0-9][a-zA-Z0-9._-]*")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+!-]{0,254}")
_PACKAGE = re.compile(r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==(?P<version>.+)")


def server_json(  # what a registry asks for
    *, name: str, description: str, version: str, url: str | None, package: str | None, keyed: bool
) -> dict[str, Any]:
    """The document.

    Args:
        name: in the form io.github.somebody/thing.
        description: at most 100 characters.
        version: of the server, exactly.
        url: where it runs, for everybody; None for nowhere.
        package: what to install to start it, as `name==version` on PyPI; None for nothing.
        keyed: whether it asks for a key.

    Raises:
        ConfigurationError: what the registry would refuse.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"{name!r} is no name for a registry: a domain backwards and one slash, io.github.somebody/thing.")
    if not 0 < len(description) <= DESCRIPTION:
        raise ConfigurationError(f"The description has {len(description)} characters: it must have 1 to {DESCRIPTION}.")
    _check_version(version)
    if url is None and package is None:
        raise ConfigurationError("Say where it runs (--url), or what is installed to start it (--package name==1.0.0), or both.")
    document: dict[str, Any] = {"$schema": SCHEMA, "name": name, "description": description, "version": version}
    if package is not None:
        document["packages"] = [_package(package)]
    if url is not None:
        document["remotes"] = [_remote(url, keyed=keyed)]
    return document


def _package(package: str) -> dict[str, Any]:
    found = _PACKAGE.fullmatch(package)
    if found is None:
        raise ConfigurationError(f"{package!r} is no exact package: name==1.0.0.")
    _check_version(found["version"])
    return {
        "registryType": "pypi",
        "identifier": found["name"],
        "version": found["version"],
        "runtimeHint": "uvx",
        "transport": {"type": "stdio"},
    }


def _remote(url: str, *, keyed: bool) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise ConfigurationError(f"{url!r} cannot be published: it must be an https:// URL that everybody reaches.")
    remote: dict[str, Any] = {"type": "streamable-http", "url": url}
    if keyed:
        remote["headers"] = [
            {
                "name": "Authorization",
                "description": "Bearer and the API key, or the token",
                "isRequired": True,
                "isSecret": True,
            }
        ]
    return remote


def _check_version(version: str) -> None:
    if not _VERSION.fullmatch(version) or version.lower() == "latest":
        raise ConfigurationError(f"{version!r} is no exact version, such as 1.0.0.")
