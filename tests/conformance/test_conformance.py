"""The official conformance suite of MCP: every scenario, both eras, both directions. `scripts/conformance` runs it by hand."""

from __future__ import annotations

import pytest

from tests.conformance import node, suite
from tests.conformance.node import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(900)]

SERVER_SCENARIOS = {"2025-11-25": 30, "2026-07-28": 49}
"""How many the pinned suite has at least: one that is silently left out is noticed."""
CLIENT_SCENARIOS = {"2025-11-25": 18, "2026-07-28": 32}


@pytest.mark.parametrize("direct", [True, False], ids=["with the direct path", "without"])
@pytest.mark.parametrize("era", suite.ERAS)
def test_server_passes_every_applicable_scenario(era: str, *, direct: bool) -> None:
    node.required()

    outcome = suite.as_server(era, direct=direct)

    assert not outcome.failures, outcome.output
    assert outcome.scenarios >= SERVER_SCENARIOS[era]


@pytest.mark.parametrize("era", suite.ERAS)
def test_client_passes_every_applicable_scenario(era: str) -> None:
    node.required()

    outcome = suite.as_client(era)

    assert not outcome.failures, outcome.output
    assert outcome.scenarios >= CLIENT_SCENARIOS[era]


def test_page_lists_with_its_reason_what_is_not_applicable() -> None:
    page = (ROOT / "docs" / "mcp_bridge.md").read_text()

    missing = [scenario for scenario in suite.NOT_APPLICABLE if f"`{scenario}`" not in page]
    assert not missing
