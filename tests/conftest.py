"""What all tests share: the event loop, the patience of Hypothesis, and an environment that holds no settings of the developer's.

Not a place for fixtures of one room: those stand in the room's own conftest or helper module.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# A noisy machine is no reason to fail: how long one example may take is for pytest-timeout to say.
settings.register_profile("portico", deadline=None)
settings.register_profile("long", deadline=None, max_examples=5000)  # `make fuzz`
settings.load_profile("portico")


def pytest_configure() -> None:
    """Before any test module is imported: forget the settings of the developer's shell, and keep loopback away from proxies."""
    for name in [name for name in os.environ if name.startswith(("PORTICO_", "OTEL_"))]:
        del os.environ[name]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost,::1"


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Plain asyncio. A test of uvloop asks for it itself."""
    return "asyncio", {"use_uvloop": False}
