"""Our names are OpenTelemetry's, of the version that we say."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from opentelemetry.semconv import schemas

from portico.telemetry import semconv

OURS = ("portico.", "portico_")
"""What begins so is not OpenTelemetry's."""


def known() -> set[str]:
    """Every attribute of the conventions."""
    found: set[str] = set()
    for name in ("opentelemetry.semconv.attributes", "opentelemetry.semconv._incubating.attributes"):
        package: Any = importlib.import_module(name)
        for module in pkgutil.iter_modules(package.__path__):
            loaded = importlib.import_module(f"{package.__name__}.{module.name}")
            found |= {value for value in vars(loaded).values() if isinstance(value, str)}
    return found


def test_every_attribute_that_is_not_ours_is_one_of_the_conventions() -> None:
    prefixes = ("gen_ai.", "mcp.", "http.", "url.", "server.", "client.", "network.", "user_agent.", "error.", "jsonrpc.", "rpc.")
    names = {value for value in vars(semconv).values() if isinstance(value, str) and value.startswith(prefixes)}
    metrics = {name for name in names if name.endswith((".duration", ".usage"))}  # those are no attributes

    assert len(names) > 40
    assert names - metrics - known() == set()


def test_the_version_is_one_that_the_package_knows() -> None:
    assert semconv.SCHEMA_URL in {schema.value for schema in schemas.Schemas}
