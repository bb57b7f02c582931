"""The views of runs, as somebody in a browser uses them: answers, cancels, sends again, follows, looks for, and is told."""

from __future__ import annotations

import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import pytest
from playwright.sync_api import expect

from tests.console.accessibility import faults
from tests.console.browser import DESKTOP, PHONE
from tests.console.narrators import SCRIPT, UNSEEN
from tests.console.program import Program, running

if TYPE_CHECKING:
    from collections.abc import Generator

    from playwright.sync_api import Locator, Page

    from tests.console.browser import Visit

expect.set_options(timeout=15_000)
TOPOLOGY = Path(__file__).with_name("narrators.yaml")
ENDS = {"succeeded", "failed", "cancelled", "timed_out"}
LOST = r"ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|ERR_NETWORK"
"""What a browser says of a server that is gone."""


class Gateway:
    """A gateway that serves the narrators, and runs on it."""

    def __init__(self, program: Program, folder: Path) -> None:
        self.program, self.folder = program, folder
        self.console = program.console
        self._http = httpx.Client(base_url=program.url, timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def start(self, agent: str, operation: str, **payload: Any) -> str:
        """The id of a new run."""
        answer = self._http.post("/runs", json={"agent": agent, "operation": operation, "payload": payload})
        assert answer.status_code == 202, answer.text
        return answer.json()["run_id"]

    def start_many(self, runs: list[dict[str, Any]]) -> list[str]:
        """The ids of new runs, a hundred at most."""
        return [one["run"]["run_id"] for one in self._http.post("/runs/batch", json={"runs": runs}).json()["runs"]]

    def run(self, run_id: str, wait: float = 0) -> dict[str, Any]:
        """Its record, at the latest after `wait` seconds."""
        return self._http.get(f"/runs/{run_id}", params={"wait": wait}).json()

    def ended(self, run_id: str) -> dict[str, Any]:
        """Its record at its end."""
        record = self.run(run_id, wait=20)
        assert record["status"] in ENDS, record
        return record

    def waiting(self, agent: str, operation: str, **payload: Any) -> str:
        """The id of a new run that waits by now."""
        run_id = self.start(agent, operation, **payload)
        with self._http.stream("GET", f"/runs/{run_id}/events") as events:
            assert any("run.waiting" in line for line in events.iter_lines())
        return run_id

    def dead(self) -> list[dict[str, Any]]:
        """What failed after its retries."""
        return self._http.get("/dead-letters").json()["dead_letters"]

    def answer(self, run_id: str, value: Any) -> None:
        """As another client does."""
        assert self._http.post(f"/runs/{run_id}/input", json=value).status_code == 200


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway]:
    folder = tmp_path_factory.mktemp("narrators")
    with (
        running(Path(shutil.copy(TOPOLOGY, folder)), "--data", str(folder / "data")) as program,
        Gateway(program, folder) as gateway,
    ):
        yield gateway


def shown(visit: Visit, gateway: Gateway, address: str = "", **how: Any) -> Page:
    """A view of the console."""
    return visit.show(f"{gateway.console}#/{address}", **how)


def row(page: Page, run_id: str) -> Locator:
    """A run in the list."""
    return page.locator(f"[data-run='{run_id}']")


def test_a_waiting_run_is_answered_from_the_form_that_its_schema_makes(visit: Visit, gateway: Gateway) -> None:
    run_id = gateway.waiting("baker", "bake", cake="Sachertorte")
    page = shown(visit, gateway, f"runs/{run_id}")

    form = page.locator("form")
    expect(page.get_by_text("Bake Sachertorte?").first).to_be_visible()
    form.get_by_role("button", name="Answer").click()
    expect(form.get_by_role("alert")).to_contain_text("things are not right yet")
    expect(form.get_by_role("group", name="Approved")).to_contain_text("Say yes or no.")
    form.get_by_label("Yes").first.check()
    form.get_by_label("Pieces").fill("200")
    form.get_by_label("Day").fill("2026-12-24")
    form.get_by_label("Number").fill("4711")
    expect(form.get_by_text("This must be 100 or less.")).to_be_visible()
    form.get_by_label("Pieces").fill("16")
    form.get_by_role("button", name="Add an entry").click()
    form.get_by_label("Cake").fill("Linzer Torte")
    form.get_by_role("button", name="Answer").click()

    expect(page.locator(".run-head .status")).to_contain_text("succeeded")
    expect(page.get_by_role("group", name="output")).to_contain_text("Sachertorte in 16 pieces: baked")
    assert gateway.ended(run_id)["output"] == "Sachertorte in 16 pieces: baked"


def test_several_questions_are_one_form_and_what_the_gateway_refuses_stands_at_its_field(visit: Visit, gateway: Gateway) -> None:
    run_id = gateway.waiting("baker", "several")
    page = shown(visit, gateway, f"runs/{run_id}", expected="422")

    expect(page.get_by_role("link", name="https://pay.example/invoice/12")).to_have_attribute("rel", "noopener noreferrer")
    page.get_by_role("button", name="Edit as JSON").click()
    page.get_by_label("JSON").fill('{"who": "x", "paid": true}')
    page.get_by_role("button", name="Answer").click()
    expect(page.locator(".form-summary")).to_contain_text("/who")
    page.get_by_role("button", name="Edit as form").click()
    expect(page.get_by_label("Who eats it?")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Who eats it?").fill("Anna")
    page.get_by_role("button", name="Answer").click()

    expect(page.locator(".run-head .status")).to_contain_text("succeeded")
    assert gateway.ended(run_id)["output"] == {"who": "Anna", "paid": True}


def test_an_answer_that_comes_second_is_told_so(visit: Visit, gateway: Gateway) -> None:
    run_id = gateway.waiting("baker", "sure", cake="Strudel")
    record = gateway.run(run_id)
    page = shown(visit, gateway, "runs", expected="ERR_FAILED|409|ERR_ABORTED")
    page.route("**/runs/*/events", lambda route: route.abort())
    page.route(f"**/runs/{run_id}", lambda route: route.fulfill(json=record))  # the page does not hear of the other one
    page.evaluate("(id) => { location.hash = `#/runs/${id}` }", run_id)
    page.get_by_label("No", exact=True).check()
    gateway.answer(run_id, True)

    page.get_by_role("button", name="Answer").click()

    expect(page.get_by_role("alert")).to_contain_text("It was answered before")
    assert gateway.ended(run_id)["output"] == "baked"


def test_what_waits_is_counted_in_the_navigation_and_answered_from_the_list(visit: Visit, gateway: Gateway) -> None:
    page = shown(visit, gateway, "waiting")
    expect(page.get_by_text("Nothing waits for an answer")).to_be_visible()
    expect(page.locator("[data-connection=live]")).to_be_visible()
    run_id = gateway.waiting("baker", "sure", cake="Gugelhupf")

    expect(page.locator(".nav .badge")).to_contain_text("1")
    card = page.get_by_role("article").filter(has_text="Gugelhupf")
    card.get_by_label("Yes", exact=True).check()
    card.get_by_role("button", name="Answer").click()

    expect(page.get_by_text("Nothing waits for an answer")).to_be_visible()
    expect(page.locator(".nav .badge")).to_have_count(0)
    assert gateway.ended(run_id)["output"] == "baked"


def test_one_question_after_another_is_answered_each_with_its_own_answer(visit: Visit, gateway: Gateway) -> None:
    page = shown(visit, gateway, "waiting")
    expect(page.locator("[data-connection=live]")).to_be_visible()
    run_id = gateway.waiting("baker", "in_turn", cake="Biskuit")
    card = page.get_by_role("article").filter(has_text="Biskuit")
    yes, no = card.get_by_label("Yes", exact=True), card.get_by_label("No", exact=True)
    yes.check()
    card.get_by_role("button", name="Answer").click()

    expect(yes).not_to_be_checked()
    no.check()
    card.get_by_role("button", name="Answer").click()
    yes.first.check()
    card.get_by_label("Pieces").fill("7")
    card.get_by_label("Day").fill("2026-12-24")
    card.get_by_label("Kind").select_option("cash")
    card.get_by_role("button", name="Answer").click()

    expect(page.get_by_text("Nothing waits for an answer")).to_be_visible()
    assert gateway.ended(run_id)["output"] == [True, False, 7]


def test_a_run_is_cancelled_when_somebody_is_sure(visit: Visit, gateway: Gateway) -> None:
    run_id = gateway.start("patient", "count", until="never")
    page = shown(visit, gateway, f"runs/{run_id}")

    page.get_by_role("button", name="Cancel run").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel", exact=True).click()
    assert gateway.run(run_id)["status"] not in ENDS
    page.get_by_role("button", name="Cancel run").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the run").click()

    expect(page.locator(".run-head .status")).to_contain_text("cancelled")
    expect(page.get_by_role("button", name="Cancel run")).to_have_count(0)
    assert gateway.ended(run_id)["status"] == "cancelled"


HELD = """
{
  const own = window.fetch;
  window.holds = false;
  let held;
  window.held = new Promise((resolve) => { held = resolve });
  window.fetch = async (url, options) => {
    if (/\\/events\\?/.test(url)) throw new TypeError("no line");
    const response = await own(url, options);
    if (!window.holds || !/\\/runs\\/[^/]+$/.test(url) || options.method !== "GET") return response;
    await response.clone().text();
    await new Promise((resolve) => { window.release = resolve; held(); });
    return response;
  };
}
"""
"""A line on which the record of a run is long under way, when `holds` is true: until somebody calls `release()`.
What happens is told by the run's own events alone."""


def test_a_run_that_ends_while_its_record_is_on_its_way_is_seen_to_end(visit: Visit, gateway: Gateway) -> None:
    run_id = gateway.waiting("patient", "told", until="late")
    page = shown(visit, gateway, f"runs/{run_id}", script=HELD)
    expect(page.get_by_role("button", name="Answer")).to_be_visible()
    expect(page.locator(".following")).to_have_text("live")
    page.evaluate("holds = true")
    gateway.answer(run_id, True)
    page.evaluate("held")
    (gateway.folder / "late").touch()
    expect(page.get_by_role("list", name="What happened")).to_contain_text("Succeeded")

    page.evaluate("holds = false; release()")

    expect(page.locator(".run-head .status")).to_contain_text("succeeded")


def test_a_story_has_texts_joined_and_results_beside_their_calls(visit: Visit, gateway: Gateway) -> None:
    run_id = gateway.start("storyteller", "tell", what="dragons", pieces=40)
    gateway.ended(run_id)
    page = shown(visit, gateway, f"runs/{run_id}")

    story = page.get_by_role("list", name="What happened")
    expect(story.locator(".kind-text")).to_have_count(1)
    expect(story.locator(".kind-text")).to_contain_text("in 40 pieces")
    expect(story.locator(".kind-text")).to_contain_text("sentence 39")
    tool = story.locator(".kind-tool")
    expect(tool).to_contain_text("search")
    tool.get_by_text("result").click()
    expect(tool).to_contain_text('title: "Book 5"')
    expect(story.locator(".kind-model")).to_contain_text("gpt-4.1-mini 820 → 112 tokens · $0.00051")
    expect(story.locator(".kind-step")).to_contain_text("prepare")


def test_children_are_shown_with_the_run_that_sent_them(visit: Visit, gateway: Gateway) -> None:
    run_id = gateway.start("parent", "spread", count=3)
    gateway.ended(run_id)
    page = shown(visit, gateway, f"runs/{run_id}")

    children = page.get_by_role("region", name="Sent from here").or_(page.locator("section").filter(has_text="Sent from here"))
    expect(children.first.get_by_role("link", name="storyteller")).to_have_count(3)
    children.first.get_by_role("link", name="storyteller").first.click()
    expect(page.get_by_role("link", name=run_id)).to_be_visible()


def test_dead_letters_are_sent_again_several_at_once(visit: Visit, gateway: Gateway) -> None:
    broken = gateway.folder / "broken"
    broken.touch()
    runs = [gateway.start("flaky", "double", number=number) for number in range(3)]
    for run_id in runs:
        assert gateway.ended(run_id)["status"] == "failed"
    broken.unlink()
    page = shown(visit, gateway, "dead-letters?agent=flaky")

    rows = page.locator("[data-letter]")
    expect(rows).to_have_count(3)
    page.get_by_role("grid").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    expect(page.get_by_role("link", name=runs[-1])).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    page.get_by_role("button", name="Send 2 letters again").click()
    page.get_by_role("dialog").get_by_role("button", name="Send again").click()

    expect(page.locator(".notices")).to_contain_text("2 letters sent again")
    expect(rows).to_have_count(1)
    rows.click()
    page.get_by_role("complementary").get_by_role("button", name="Send again").click()
    page.get_by_role("dialog").get_by_role("button", name="Send again").click()
    expect(page.get_by_text("This agent has no dead letters")).to_be_visible()
    assert gateway.dead() == []


def test_a_failed_run_leads_to_its_dead_letter(visit: Visit, gateway: Gateway) -> None:
    (gateway.folder / "broken").touch()
    run_id = gateway.start("flaky", "double", number=21)
    gateway.ended(run_id)
    (gateway.folder / "broken").unlink()
    page = shown(visit, gateway, f"runs/{run_id}")

    page.get_by_role("link", name="Dead letters of flaky").click()
    page.locator("[data-letter]").first.click()

    expect(page.get_by_role("complementary")).to_contain_text("number: 21")


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_two_thousand_runs_scroll_without_a_hole(visit: Visit, gateway: Gateway) -> None:
    later: dict[str, Any] = {"agent": "storyteller", "operation": "long", "payload": {}, "delay": 3600}
    wanted = [run_id for _ in range(20) for run_id in gateway.start_many([later] * 100)]
    page = shown(visit, gateway, "runs?status=queued")
    box = page.locator("#runs")
    expect(row(page, wanted[-1])).to_be_visible()
    expect(page.locator(".list-foot")).to_contain_text("as you scroll")

    seen: set[str] = set()
    for _ in range(400):
        heights: list[float] = box.evaluate("box => [box.scrollTop, box.clientHeight, box.scrollHeight]")
        tops: list[tuple[str, float]] = box.evaluate(
            """box => [...box.querySelectorAll('[data-run]')].map(one => [one.dataset.run, one.offsetTop])
            .sort((one, other) => one[1] - other[1])"""
        )
        seen.update(run_id for run_id, _ in tops)
        places = [top for _, top in tops]
        assert places[0] <= heights[0]
        assert {after - before for before, after in pairwise(places)} == {36}
        if heights[0] + heights[1] >= heights[2] - 1 and len(seen) >= 2000:
            break
        box.evaluate("box => { box.scrollTop += box.clientHeight - 80 }")
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    assert seen == set(wanted)
    assert page.locator("[data-run]").count() < 100
    expect(page.locator(".list-foot")).to_have_text("2,000 runs")


def test_runs_come_by_themselves_and_what_is_in_sight_stays_there(visit: Visit, gateway: Gateway) -> None:
    for _ in range(3):
        gateway.start_many([{"agent": "storyteller", "operation": "tell", "payload": {"pieces": 1}}] * 20)
    page = shown(visit, gateway, "runs?agent=storyteller")
    expect(page.locator("[data-connection=live]")).to_be_visible()
    first = gateway.start("storyteller", "tell", pieces=1)
    expect(row(page, first)).to_contain_text("succeeded")
    box = page.locator("#runs")
    box.evaluate("box => { box.scrollTop = 36 * 20 + 10 }")
    looked_at = "box => [...box.querySelectorAll('[data-run]')].find(one => one.offsetTop >= box.scrollTop).dataset.run"
    before: str = box.evaluate(looked_at)
    number = page.locator(".list-foot").inner_text()

    last = gateway.start_many([{"agent": "storyteller", "operation": "tell", "payload": {"pieces": 1}}] * 10)[-1]

    expect(page.locator(".list-foot")).not_to_have_text(number)
    assert box.evaluate(looked_at) == before
    box.evaluate("box => { box.scrollTop = 0 }")
    expect(row(page, last)).to_contain_text("succeeded")


def test_filters_stand_in_the_address_and_an_address_brings_them_back(visit: Visit, gateway: Gateway) -> None:
    good = gateway.start("flaky", "double", number=1)
    other = gateway.start("storyteller", "tell")
    gateway.ended(good)
    gateway.ended(other)
    page = shown(visit, gateway, "runs")
    expect(row(page, other)).to_be_visible()

    page.get_by_label("Agent").fill("flaky")
    page.get_by_role("button", name="succeeded").click()

    expect(row(page, good)).to_be_visible()
    expect(row(page, other)).to_have_count(0)
    expect(page).to_have_url(re.compile(r"#/runs\?(?=.*agent=flaky).*status=succeeded"))  # what is typed comes a moment later
    again = visit.show(page.url)
    expect(row(again, good)).to_be_visible()
    expect(row(again, other)).to_have_count(0)
    expect(again.get_by_label("Agent")).to_have_value("flaky")
    row(again, good).click()
    expect(again.get_by_role("heading", level=1)).to_contain_text("flaky")
    again.get_by_role("link", name="← Runs").click()
    expect(again.get_by_label("Agent")).to_have_value("flaky")


@pytest.mark.parametrize("text", [SCRIPT, UNSEEN])
def test_what_strangers_write_is_text_in_every_field(visit: Visit, gateway: Gateway, text: str) -> None:
    run_id = gateway.start("storyteller", "hostile", text=text)
    gateway.ended(run_id)
    page = shown(visit, gateway, f"runs/{run_id}")

    expect(page.locator(".run-head .status")).to_contain_text("succeeded")
    expect(page.get_by_role("list", name="What happened")).to_contain_text("Succeeded")
    folded = page.locator("details:not([open]) > summary")
    while folded.count():
        folded.first.click()
    whole = page.locator("main").inner_text()
    assert not set("\u202e\u0007\u200b") & set(whole)
    assert (SCRIPT if text == SCRIPT else r"left\u202eright\u0007\u200bend") in whole
    assert page.locator("main img, main script").count() == 0
    assert "taken over" not in page.title()


def test_a_reply_of_a_megabyte_is_cut_until_somebody_wants_it(visit: Visit, gateway: Gateway) -> None:
    run_id = gateway.start("storyteller", "long")
    gateway.ended(run_id)
    page = shown(visit, gateway, f"runs/{run_id}")

    output = page.get_by_role("group", name="output")
    expect(output.get_by_role("button", name="Show 1,048,176 more characters")).to_be_visible()
    assert len(output.inner_text()) < 2000


def test_a_run_that_there_is_not_is_said_to_be_none(visit: Visit, gateway: Gateway) -> None:
    page = shown(visit, gateway, "runs/nonsense", expected="404")

    expect(page.get_by_text("There is no such run")).to_be_visible()


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_a_story_goes_on_after_its_server_was_killed_and_started_again(visit: Visit, tmp_path: Path) -> None:
    with (
        running(Path(shutil.copy(TOPOLOGY, tmp_path)), "--data", str(tmp_path / "data")) as program,
        Gateway(program, tmp_path) as gateway,
    ):
        run_id = gateway.start("patient", "count", until="enough")
        page = shown(visit, gateway, f"runs/{run_id}", expected=LOST)
        numbers = page.locator(".kind-event")
        expect(page.locator(".following")).to_have_text("live")
        expect(numbers.nth(3)).to_be_visible()

        program.kill()
        expect(page.locator(".following")).to_contain_text("connection lost")
        program.start()
        (tmp_path / "enough").touch()

        expect(page.locator(".run-head .status")).to_contain_text("succeeded", timeout=20_000)
        story = page.get_by_role("list", name="What happened")
        expect(story).to_contain_text("Succeeded")
        told = story.locator(".kind-event .json-plain, .kind-event code").all_inner_texts()
        assert [one for one in told if one.startswith('{"number"')] == [
            f'{{"number":{n}}}' for n in range(1, len([one for one in told if one.startswith("{")]) + 1)
        ]


@pytest.mark.timeout(120)
@pytest.mark.slow
@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"])
def test_nothing_keeps_anybody_from_using_the_views(visit: Visit, gateway: Gateway, size: tuple[int, int], scheme: str) -> None:
    told = gateway.start("storyteller", "tell")
    gateway.ended(told)
    waits = gateway.waiting("baker", "bake", cake="Sachertorte")
    (gateway.folder / "broken").touch()
    gateway.ended(gateway.start("flaky", "double", number=3))
    (gateway.folder / "broken").unlink()
    page = shown(visit, gateway, size=size, scheme=scheme)
    found: list[str] = []

    for address, ready in (
        ("runs", "[data-run]"),
        (f"runs/{told}", ".kind-text"),
        (f"runs/{waits}", "form"),
        ("waiting", "article"),
        ("dead-letters", "[data-letter]"),
        ("upstreams", ".empty"),
    ):
        page.evaluate("address => { location.hash = `#/${address}` }", address)
        page.locator(ready).first.wait_for()
        found += [f"{address}: {fault}" for fault in faults(page)]
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), address

    gateway.answer(waits, {"approved": False, "day": "2026-12-24", "payment": {"kind": "cash"}})
    assert found == []
