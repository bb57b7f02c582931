"""Agents of other kinds than one process under a name on the live page, and what an agent's own page may do to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.sync_api import expect

from tests.console.agents import SCRIPT
from tests.console.program import running

if TYPE_CHECKING:
    from collections.abc import Generator

    from playwright.sync_api import Locator, Page

    from tests.console.browser import Visit
    from tests.console.program import Program

STRANGE = SCRIPT + "\u202e/\u0007 %2F?#"
SEEN = SCRIPT + r"\u202e/\u0007 %2F?#"
"""The same on the page."""


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


def test_an_agent_under_a_strangers_name_is_shown_as_text_opened_and_restarted(visit: Visit, program: Program) -> None:
    page = visit.show(program.console)
    expect(row(page, "guests")).to_be_visible()
    with httpx.Client(base_url=program.url, timeout=20) as http:
        http.post("/agents/host", json={"name": STRANGE}).raise_for_status()
        page.get_by_label("Filter by name").fill("<script>")
        guest = page.get_by_role("row").filter(has_text=SEEN)
        expect(guest).to_contain_text("running")

        page.get_by_role("treegrid").focus()
        page.keyboard.press("End")
        page.keyboard.press("Enter")
        panel = page.get_by_role("complementary")
        expect(panel.get_by_role("heading", name=SEEN, exact=True)).to_be_visible()
        panel.get_by_role("button", name="Restart").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("<script>")
        dialog.get_by_role("button", name="Restart").click()
        expect(page.locator(".notice")).to_contain_text("was restarted")
        expect(panel.locator("dt", has_text=re.compile("^Life$")).locator("+ dd")).to_have_text("2")

        run = http.post("/runs", json={"agent": STRANGE, "payload": {}}).raise_for_status().json()["run_id"]
        assert http.get(f"/runs/{run}", params={"wait": 10}).json()["status"] == "failed"
    expect(panel.get_by_role("heading", name=re.compile("Last crash"))).to_be_visible()
    expect(panel.get_by_text("Traceback", exact=True)).to_be_visible()

    for address in ("runs", "dead-letters"):
        page.evaluate("address => { location.hash = `#/${address}` }", address)
        expect(page.get_by_role("row").filter(has_text="<script>")).to_be_visible()
        expect(page.get_by_role("heading", level=1)).to_be_attached()
    page.get_by_role("row").filter(has_text="<script>").click()
    expect(page.get_by_role("complementary")).to_contain_text(SEEN)
    expect(page).to_have_title("Dead letters · Portico")
    assert page.locator("script").count() == 2
    assert page.locator("main img").count() == 0
