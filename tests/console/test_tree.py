"""The tree on the live page, seen in a browser: what stands there, what happens to it, what can be done with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.sync_api import expect

from tests.console.browser import PHONE, SMALL_PHONE
from tests.console.program import running

if TYPE_CHECKING:
    from collections.abc import Generator

    from playwright.sync_api import Locator, Page

    from tests.console.browser import Visit
    from tests.console.program import Program

TOPOLOGY = Path(__file__).parent / "topology.yaml"
TAKEN_OVER = "taken over"

WRONG_CLOCK = """
{
  const Right = Date;
  const late = HOURS * 3600_000;
  window.Date = class extends Right {
    constructor(...given) { given.length ? super(...given) : super(Right.now() + late); }
    static now() { return Right.now() + late; }
  };
}
"""
HIDDEN = """
var hidden = false;
Object.defineProperty(document, "hidden", {get: () => hidden});
window.hide = (is) => { hidden = is; document.dispatchEvent(new Event("visibilitychange")); };
"""
"""Playwright shows every tab always."""


@pytest.fixture(scope="module")
def program() -> Generator[Program]:
    with running(TOPOLOGY) as program:
        yield program


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has=page.locator("bdi", has_text=re.compile(f"^{re.escape(name)}$")))


def cell(page: Page, name: str, column: str) -> Locator:
    """What stands in a column of a row."""
    headers = page.get_by_role("columnheader")
    expect(headers.filter(has_text=column)).to_be_visible()
    return row(page, name).get_by_role("gridcell").nth(headers.all_text_contents().index(column))


def burn(program: Program, what: str = "the cake") -> None:
    assert httpx.post(f"{program.url}/agents/baker/burn", json={"what": what}, timeout=20).status_code == 502


def test_the_tree_is_seen_with_states(visit: Visit, program: Program) -> None:
    page = visit.show(program.console)

    tree = page.get_by_role("treegrid", name="Supervision tree")
    expect(tree.get_by_role("row", name=re.compile("baker"))).to_contain_text("running")
    expect(row(page, "kitchen")).to_contain_text("one_for_all")
    expect(row(page, "kitchen")).to_have_attribute("aria-level", "2")
    expect(row(page, "kitchen")).to_have_attribute("aria-expanded", "true")
    expect(page).to_have_title("Tree · Portico")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    expect(page.get_by_text("Ready", exact=True)).to_be_visible()


@pytest.mark.parametrize("hours", [-26, 26])
def test_how_long_ago_something_was_is_right_where_the_browsers_clock_is_wrong(visit: Visit, program: Program, hours: int) -> None:
    page = visit.show(f"{program.console}#/tree/baker", script=WRONG_CLOCK.replace("HOURS", str(hours)))
    expect(page.locator("[data-connection=live]")).to_have_attribute("title", re.compile(f"clock differs by {hours * 3600} s"))
    burn(program, "with a wrong clock")

    expect(page.get_by_role("complementary")).to_contain_text("burnt: with a wrong clock")
    expect(page.get_by_role("complementary")).to_contain_text(re.compile(r"just now|\b\d+ s ago"))
    expect(page.get_by_role("complementary")).not_to_contain_text(re.compile(r"\bd ago|\bin \d"))


def test_a_tab_that_is_hidden_rests_and_reads_what_it_missed_when_it_is_seen_again(visit: Visit, program: Program) -> None:
    page = visit.show(f"{program.console}#/tree/baker", script=HIDDEN)
    page.clock.install()
    expect(page.locator("[data-connection=live]")).to_be_visible()
    page.evaluate("hide(true)")
    page.clock.run_for(6_000)
    expect(page.locator("[data-connection=paused]")).to_be_visible()
    burn(program, "behind its back")

    page.evaluate("hide(false)")

    expect(page.locator("[data-connection=live]")).to_be_visible()
    expect(page.get_by_role("complementary")).to_contain_text("burnt: behind its back")


def test_a_tab_that_is_opened_behind_another_rests_until_it_is_seen(visit: Visit, program: Program) -> None:
    page = visit.show(program.console, script=HIDDEN.replace("false", "true"))
    expect(page.locator("[data-connection=paused]")).to_be_visible(timeout=15_000)

    page.evaluate("hide(false)")

    expect(page.locator("[data-connection=live]")).to_be_visible()


def test_a_crash_appears_with_its_message_and_its_traceback(visit: Visit, program: Program) -> None:
    page = visit.show(f"{program.console}#/tree/baker")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    panel = page.get_by_role("complementary")
    expect(panel).to_contain_text("Restarts")

    burn(program, "everything at once")

    expect(panel.get_by_text("burnt: everything at once").first).to_be_visible()
    expect(panel.get_by_text("RuntimeError").first).to_be_visible()
    expect(row(page, "baker").get_by_text("has crashed")).to_be_attached()
    panel.get_by_text("Traceback", exact=True).click()
    expect(panel.get_by_role("region", name="Traceback")).to_contain_text("in burn")
    expect(page.locator("#spoken")).to_contain_text("baker")


def test_what_waits_for_an_agent_and_what_it_has_in_hand_stand_in_its_row(visit: Visit, program: Program) -> None:
    page = visit.show(program.console)
    expect(cell(page, "slow", "Queue")).to_have_text("0")
    expect(cell(page, "slow", "In flight")).to_have_text("0")
    nap = {"agent": "slow", "operation": "nap", "payload": {"seconds": 30}}

    with httpx.Client(base_url=program.url, timeout=20) as http:
        runs = [http.post("/runs", json=nap).raise_for_status().json()["run_id"] for _ in range(3)]
        expect(cell(page, "slow", "Queue")).to_have_text("2")
        expect(cell(page, "slow", "In flight")).to_have_text("1")
        for run in reversed(runs):
            http.post(f"/runs/{run}/cancel").raise_for_status()

    expect(cell(page, "slow", "Queue")).to_have_text("0")
    expect(cell(page, "slow", "In flight")).to_have_text("0")


def test_how_often_an_agent_was_restarted_of_late_stands_in_its_row(visit: Visit, program: Program) -> None:
    page = visit.show(program.console)
    expect(cell(page, "hostile", "Restarts/min")).to_have_text("0")

    assert httpx.post(f"{program.url}/agents/hostile/crash", json={}, timeout=20).status_code == 502

    expect(cell(page, "hostile", "Restarts/min")).to_have_text("1")
    expect(cell(page, "hostile", "Life")).to_have_text("2")


def test_an_agent_is_restarted_once_that_is_confirmed(visit: Visit, program: Program) -> None:
    page = visit.show(f"{program.console}#/tree/echo")
    panel = page.get_by_role("complementary")
    life = panel.locator("dt", has_text=re.compile("^Life$")).locator("+ dd")
    expect(life).to_have_text("1")

    panel.get_by_role("button", name="Restart").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(life).to_have_text("1")
    panel.get_by_role("button", name="Restart").click()
    page.get_by_role("dialog").get_by_role("button", name="Restart").click()

    expect(life).to_have_text("2")
    expect(page.locator(".notice")).to_contain_text("echo was restarted")


def test_an_agent_is_suspended_with_a_reason_and_resumed(visit: Visit, program: Program) -> None:
    page = visit.show(f"{program.console}#/tree/slow")
    panel = page.get_by_role("complementary")

    panel.get_by_role("button", name="Suspend").click()
    dialog = page.get_by_role("dialog", name=re.compile("Suspend"))
    dialog.get_by_label(re.compile("Reason")).fill("it is tired")
    dialog.get_by_role("button", name="Suspend").click()

    expect(row(page, "slow")).to_contain_text("suspended")
    expect(panel).to_contain_text("it is tired")
    panel.get_by_role("button", name="Resume").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(row(page, "slow")).to_contain_text("running")
    expect(panel).not_to_contain_text("it is tired")


def test_an_agent_is_drained_with_a_reason_finishes_what_it_has_and_is_resumed(visit: Visit, program: Program) -> None:
    page = visit.show(f"{program.console}#/tree/slow")
    panel = page.get_by_role("complementary")
    with httpx.Client(base_url=program.url, timeout=20) as http:
        nap = {"agent": "slow", "operation": "nap", "payload": {"seconds": 30}}
        run = http.post("/runs", json=nap).raise_for_status().json()["run_id"]

        panel.get_by_role("button", name="Drain").click()
        dialog = page.get_by_role("dialog", name=re.compile("Drain"))
        dialog.get_by_label(re.compile("Reason")).fill("a new version comes")
        dialog.get_by_role("button", name="Drain").click()

        expect(row(page, "slow")).to_contain_text("draining")
        expect(panel).to_contain_text("a new version comes")
        expect(page.locator(".notice")).to_contain_text("slow is being drained")
        assert http.post("/agents/slow", json={}).status_code == 503
        http.post(f"/runs/{run}/cancel").raise_for_status()
    expect(row(page, "slow")).to_contain_text("suspended")
    panel.get_by_role("button", name="Resume").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(row(page, "slow")).to_contain_text("running")


def test_an_ask_is_tried_with_a_form_made_from_its_contract(visit: Visit, program: Program) -> None:
    page = visit.show(f"{program.console}#/tree/baker", expected="422")
    attempt = page.get_by_role("region", name="Try it")
    cake = attempt.get_by_label(re.compile("Cake"))

    expect(attempt.get_by_label("Operation")).to_have_value("bake")
    cake.fill("Linzer Torte")
    attempt.get_by_label(re.compile("Pieces")).fill("3")
    attempt.get_by_role("button", name="Ask").click()
    outcome = attempt.get_by_role("group", name="What came of it")
    expect(outcome).to_contain_text("Answered (200)")
    expect(outcome).to_contain_text("Linzer Torte")

    attempt.get_by_label("How").select_option("stream")
    attempt.get_by_role("button", name="Ask").click()
    expect(outcome).to_contain_text("piece 3")
    expect(outcome.get_by_text("Answered (200)")).to_be_visible()


def test_what_strangers_say_is_text_on_the_page(visit: Visit, program: Program) -> None:
    page = visit.show(f"{program.console}#/tree/hostile")
    attempt = page.get_by_role("region", name="Try it")
    attempt.get_by_role("button", name="Ask").click()
    outcome = attempt.get_by_role("group", name="What came of it")

    expect(outcome).to_contain_text("<script>")
    expect(outcome).to_contain_text(r"left\u202eright\u0007\u200bend")
    httpx.post(f"{program.url}/agents/hostile/crash", json={}, timeout=20)
    complaint = page.get_by_role("complementary").locator(".complaint").first
    expect(complaint).to_contain_text("onerror=")
    assert len(page.locator("body").inner_text()) < 60_000
    assert page.title() == "Tree · Portico"
    assert page.locator("script").count() == 2
    assert page.locator("main img").count() == 0


def test_the_tree_is_walked_by_keyboard_alone(visit: Visit, program: Program) -> None:
    page = visit.show(program.console)
    expect(row(page, "kitchen")).to_be_visible()

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    for _ in range(3):  # the filter by name, the filter by status, the tree
        page.keyboard.press("Tab")
    tree = page.get_by_role("treegrid")
    expect(tree).to_be_focused()
    page.keyboard.press("Home")
    for _ in range(4):
        page.keyboard.press("ArrowDown")
    kitchen = row(page, "kitchen")
    expect(kitchen).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowLeft")
    expect(kitchen).to_have_attribute("aria-expanded", "false")
    expect(row(page, "baker")).to_have_count(0)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(row(page, "baker")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    panel = page.get_by_role("complementary")
    expect(panel.get_by_role("heading", name="baker")).to_be_visible()
    page.keyboard.press("Tab")
    expect(panel.get_by_role("button", name="Close details")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name=re.compile("Suspend"))
    expect(dialog.get_by_label(re.compile("Reason"))).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(panel.get_by_role("button", name="Suspend")).to_be_focused()


def test_a_filter_shows_what_matches_with_what_is_above_it_and_stands_in_the_address(visit: Visit, program: Program) -> None:
    page = visit.show(program.console)
    page.get_by_label("Filter by name").fill("BAK")

    expect(row(page, "echo")).to_have_count(0)
    expect(row(page, "kitchen")).to_be_visible()
    expect(row(page, "baker")).to_be_visible()
    assert page.url.endswith("#/tree?q=BAK")
    page.get_by_label("Filter by name").fill("no such thing")
    expect(page.get_by_text("Nothing matches")).to_be_visible()


def test_a_filter_by_status_goes_by_the_status_that_is_shown(visit: Visit, program: Program) -> None:
    page = visit.show(program.console)
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    with httpx.Client(base_url=program.url, timeout=20) as http:
        http.post("/runs", json={"agent": "slow", "operation": "nap", "payload": {"seconds": 30}}).raise_for_status()
        http.post("/agents/slow/drain").raise_for_status()
        expect(row(page, "slow")).to_contain_text("draining")
        page.get_by_label("Status").select_option("draining")
        expect(row(page, "baker")).to_have_count(0)
        expect(row(page, "slow")).to_be_visible()
        page.get_by_label("Status").select_option("running")
        expect(row(page, "baker")).to_be_visible()
        expect(row(page, "slow")).to_have_count(0)
        http.post("/agents/slow/resume").raise_for_status()
        expect(row(page, "slow")).to_be_visible()


@pytest.mark.parametrize("size", [PHONE, SMALL_PHONE])
def test_nothing_sticks_out_of_a_phone(visit: Visit, program: Program, size: tuple[int, int]) -> None:
    for address in ("#/tree", "#/tree/baker", "#/traffic"):
        page = visit.show(program.console + address, size=size)
        expect(page.get_by_role("heading", level=1)).to_be_attached()
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0], address
    expect(page.get_by_role("navigation", name="Views")).to_be_visible()
