from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.app.certificates import HERE, Authority

if TYPE_CHECKING:
    from pathlib import Path

    from tests.app.certificates import Pair


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Who signs the certificates of a test."""
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority) -> Pair:
    """The files of a certificate for this machine and of its key."""
    return authority.signed("localhost", *HERE, file="server")
