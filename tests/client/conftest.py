from __future__ import annotations

import pytest

from tests.client.faces import KINDS


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which client."""
    return request.param
