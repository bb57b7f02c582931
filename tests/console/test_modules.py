"""The modules of the page that know no page: schemas to forms, events to stories. Their tests are written for node."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.node import NODE, run

TESTS = sorted(Path(__file__).parent.glob("*.test.mjs"))


@pytest.mark.parametrize("path", TESTS, ids=[path.name for path in TESTS])
def test_modules_do_what_their_tests_say(path: Path) -> None:
    done = run([str(NODE), "--test", str(path)], timeout=50)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "pass 0" not in done.stdout
