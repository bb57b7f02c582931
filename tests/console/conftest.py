"""What the tests of the live page share: a browser for each module, and windows that end with the test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.console.browser import Visit, launched

if TYPE_CHECKING:
    from collections.abc import Generator

    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    """For one module, for it keeps an event loop of its own in this thread: no asynchronous test may run meanwhile."""
    with launched() as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser) -> Generator[Visit]:
    """`visit.show(address)`."""
    visit = Visit(browser)
    yield visit
    visit.end()
