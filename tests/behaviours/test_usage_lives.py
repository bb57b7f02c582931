"""What models took is not lost: by a kill, by a disk that takes nothing for a while; and `portico usage` prints it all along."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.behaviours.lives import CHILDREN, Life, life, until
from tests.cli.programs import portico, refused

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

HELPERS: Final = [{"type": "model_agent", "name": name, "concurrency": 8} for name in ("helper", "other")]
MODELS: Final = {"scripted": {"rules": [{"say": "one two three"}]}}


def served(folder: Path) -> AbstractContextManager[Life]:
    return life(folder, children=[*CHILDREN, *HELPERS], models=MODELS)


def ask(one: Life, agent: str = "helper", key: int | None = None) -> dict[str, Any]:
    """With a key, it is stored."""
    headers = {} if key is None else {"idempotency-key": str(key)}
    response = one.http.post(f"/agents/{agent}", json={"message": "a b"}, headers=headers)
    assert response.status_code == 200, response.text
    return response.json()["usage"]


def total(one: Life, query: str = "") -> dict[str, Any]:
    return one.http.get(f"/usage{query}").json()["total"]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_what_the_reply_of_a_stored_run_says_was_used_is_counted_after_a_kill(tmp_path: Path) -> None:
    with served(tmp_path) as one:
        with ThreadPoolExecutor(8) as threads:
            replies = list(threads.map(partial(ask, one, "helper"), range(24)))
        one.kill()
    with served(tmp_path) as other:
        ask(other, "other")
        sums, of_helper = total(other), total(other, "?agent=helper")
        printed = portico("usage", "--by", "agent,model", "--data", "data", folder=tmp_path).stdout
        by_url = portico("usage", "--json", "--by", "agent", "--url", str(other.http.base_url), folder=tmp_path).stdout
    assert replies == [{"tokens_in": 2, "tokens_out": 3, "cost_usd": 0.0}] * 24
    assert [of_helper[name] for name in ("calls", "tokens_in", "tokens_out", "unpriced_calls")] == [24, 48, 72, 0]
    assert sums["calls"] == 25
    lines = [line.split() for line in printed.splitlines()]
    assert lines[0] == ["AGENT", "MODEL", "CALLS", "TOKENS", "IN", "TOKENS", "OUT", "COST"]
    assert lines[1:] == [
        ["helper", "scripted", "24", "48", "72", "$0.00"],
        ["other", "scripted", "1", "2", "3", "$0.00"],
        ["total", "25", "50", "75", "$0.00"],
    ]
    assert json.loads(by_url)["total"] == sums
    assert [row["agent"] for row in json.loads(by_url)["rows"]] == ["helper", "other"]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_what_is_used_while_the_disk_takes_nothing_is_counted_when_it_does_again(tmp_path: Path) -> None:
    with served(tmp_path) as one:
        ask(one)
        with one.short_of_disk():
            for _ in range(5):
                ask(one)
        until(lambda: total(one)["calls"] == 6)
        assert total(one, "?by=run")["tokens_out"] == 18


def test_a_mistake_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    assert "'modle' is none of: day, run, agent, principal, provider, model." in refused("usage", "--by", "modle", folder=tmp_path)
    assert "'soon' is not a day, such as 2026-01-31." in refused("usage", "--since", "soon", folder=tmp_path)
