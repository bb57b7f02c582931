"""axe-core, from npm: what it finds wrong with a page, for those who do not see it, or not well, or use no mouse."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from tests.conformance.node import PACKAGES, required

if TYPE_CHECKING:
    from playwright.sync_api import Page

STANDARDS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@functools.cache
def _source() -> str:
    required()
    return (PACKAGES / "axe-core" / "axe.min.js").read_text()


def faults(page: Page) -> list[str]:
    """One line for each fault: the rule, where, why."""
    page.evaluate(_source())
    found: Any = page.evaluate("(tags) => axe.run(document, {runOnly: {type: 'tag', values: tags}})", STANDARDS)
    return [
        f"{fault['id']} at {' '.join(map(str, node['target']))}: {node['failureSummary']}"
        for fault in found["violations"]
        for node in fault["nodes"]
    ]
