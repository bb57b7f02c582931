"""Our names are OpenTelemetry's, of the version that we say."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from opentelemetry.semconv import schemas

from portico.telemetry import semconv
from portico.telemetry.instruments import INSTRUMENTS
from tests.telemetry.documented import documented

OURS = ("portico.", "portico_")
"""What begins so is not OpenTelemetry's."""


def known(what: str) -> set[str]:
    """Every one of the `attributes`, or of the `metrics`, of the conventions."""
    found: set[str] = set()
    for name in (f"opentelemetry.semconv.{what}", f"opentelemetry.semconv._incubating.{what}"):
        package: Any = importlib.import_module(name)
        for module in pkgutil.iter_modules(package.__path__):
            loaded = importlib.import_module(f"{package.__name__}.{module.name}")
            found |= {value for value in vars(loaded).values() if isinstance(value, str)}
    return found


def test_every_attribute_that_is_not_ours_is_one_of_the_conventions() -> None:
    prefixes = ("gen_ai.", "mcp.", "http.", "url.", "server.", "client.", "network.", "user_agent.", "error.", "jsonrpc.", "rpc.")
    names = {value for value in vars(semconv).values() if isinstance(value, str) and value.startswith(prefixes)}

    assert len(names) > 40
    assert names - INSTRUMENTS.keys() - known("attributes") == set()


def test_every_metric_that_is_not_ours_is_one_of_the_conventions_and_so_are_its_labels() -> None:
    theirs = {name: one for name, one in INSTRUMENTS.items() if not name.startswith(OURS)}
    labels = {label for one in theirs.values() for label in one.labels if "." in label}  # a word of one part is ours

    assert len(theirs) >= 5
    assert theirs.keys() - known("metrics") == set()
    assert labels - known("attributes") == set()


def test_every_attribute_that_the_page_says_of_spans_is_one_of_ours() -> None:
    ours = {value for value in vars(semconv).values() if isinstance(value, str)}
    table = documented()

    assert len(table) == 9
    assert set().union(*table.values()) - ours == set()


def test_the_version_is_one_that_the_package_knows() -> None:
    assert semconv.SCHEMA_URL in {schema.value for schema in schemas.Schemas}
