"""Agents of other kinds than one process under a name on the live page, and what an agent's own page may do to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.sync_api import expect

from tests.console.program import running

if TYPE_CHECKING:
    from collections.abc import Generator

    from playwright.sync_api import Locator, Page

    from tests.console.browser import Visit
    from tests.console.program import Program


@pytest.fixture(scope="module")
def program() -> Generator[Program]:
    with running(Path(__file__).with_name("kinds.yaml")) as program:
        yield program


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has=page.locator("bdi", has_text=re.compile(f"^{name}$")))


def test_a_pool_is_seen_with_its_members_and_a_keyed_agent_with_how_many_keys_it_has(visit: Visit, program: Program) -> None:
    page = visit.show(program.console)
    expect(row(page, "crew")).to_contain_text("pool")
    expect(row(page, "crew")).to_have_attribute("aria-expanded", "true")
    expect(page.get_by_role("row", name=re.compile("crew[.-]"))).to_have_count(3)
    expect(row(page, "chat")).to_contain_text("per key")
    expect(row(page, "chat")).to_contain_text("· 0 keys")

    for session in ("secret-one", "secret-two"):
        httpx.post(f"{program.url}/agents/chat", json={"session_id": session}, timeout=20).raise_for_status()

    expect(row(page, "chat")).to_contain_text("· 2 keys")
    expect(page.locator("body")).not_to_contain_text("secret-")  # the keys are their callers'


def test_a_script_in_the_reply_of_an_agent_can_do_nothing_in_the_name_of_who_looks_at_it(visit: Visit, program: Program) -> None:
    page = visit.show(f"{program.url}/painter", expected="CORS|null|ERR_FAILED|403")

    expect(page).to_have_title("suspended: refused")
    expect(row(visit.show(program.console), "echo")).to_contain_text("running")
