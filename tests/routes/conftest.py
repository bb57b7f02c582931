from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.app.serving import served
from tests.routes.agents import Crashing, Echo, Errors, Mirror, Replies, Teller

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.app.serving import Served


@pytest.fixture(scope="module")
async def gateway(anyio_backend: object) -> AsyncGenerator[Served]:
    """One gateway for the tests of a module: those that leave it as they found it."""
    agents = [Echo("echo"), Mirror("mirror"), Replies("replies"), Errors("errors"), Crashing("crashing"), Teller("teller")]
    async with served(*agents, patience=None) as one:
        yield one
