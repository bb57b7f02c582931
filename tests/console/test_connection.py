"""The live page and its gateway over whatever comes between: a kill, a revoked key, too little of a key, a flood, a day."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from playwright.sync_api import expect

from tests.cli.programs import portico
from tests.console.browser import ELSEWHERE
from tests.console.program import Program, running

if TYPE_CHECKING:
    from collections.abc import Generator

    from playwright.sync_api import Page

    from tests.console.browser import Visit

TOPOLOGY = Path(__file__).parent / "topology.yaml"
GONE = r"ERR_CONNECTION|ERR_INCOMPLETE|ERR_EMPTY|net::ERR"
KEPT_BYTES = 4_000_000
"""What a page may have more after fifty thousand events than before."""


@pytest.fixture(scope="module")
def program() -> Generator[Program]:
    with running(TOPOLOGY) as program:
        yield program


def chip(page: Page, word: str) -> None:
    expect(page.locator("[data-connection]")).to_have_text(word, timeout=20_000)


@pytest.mark.timeout(120)
def test_the_page_comes_back_by_itself_after_the_gateway_was_killed(visit: Visit) -> None:
    with running(TOPOLOGY) as program:
        page = visit.show(f"{program.console}#/tree/echo", expected=GONE)
        chip(page, "Live")
        life = page.get_by_role("complementary").locator("dt", has_text=re.compile("^Life$")).locator("+ dd")
        httpx.post(f"{program.url}/agents/echo/restart", timeout=20).raise_for_status()
        expect(life).to_have_text("2")

        program.kill()
        chip(page, "Offline")
        expect(page.get_by_role("status").filter(has_text="out of date")).to_be_visible()
        program.start()
        chip(page, "Live")
        expect(life).to_have_text("1")
        httpx.post(f"{program.url}/agents/baker/burn", json={}, timeout=20)
        expect(page.get_by_role("row", name=re.compile("baker")).get_by_text("has crashed")).to_be_attached()


@pytest.mark.timeout(120)
def test_a_key_is_asked_for_kept_in_the_tab_and_forgotten(visit: Visit, tmp_path: Path) -> None:
    with running(TOPOLOGY, env={"PORTICO_API_KEY": "open sesame"}) as program:
        page = visit.show(program.console, expected=f"401|{GONE}")
        key = page.get_by_label("Key or token")
        expect(key).to_be_focused()
        key.fill("wrong")
        key.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("does not take that key")
        key.fill("open sesame")
        key.press("Enter")
        chip(page, "Live")
        expect(page.get_by_role("row", name=re.compile("echo")).first).to_be_visible()
        page.reload()
        chip(page, "Live")
        assert page.evaluate("JSON.stringify([{...localStorage}, document.cookie])") == '[{},""]'
        page.get_by_role("button", name="Sign out").click()
        expect(key).to_be_visible()
        assert page.evaluate("sessionStorage.length") == 0
        expect(page.get_by_role("treegrid")).to_have_count(0)


@pytest.mark.timeout(120)
def test_a_key_that_is_revoked_meanwhile_is_asked_for_again(visit: Visit, tmp_path: Path) -> None:
    data = tmp_path / "data"
    made = portico("keys", "create", "watcher", "--scope", "*", "--data", str(data), folder=tmp_path)
    key = re.search(r"\S{30,}", made.stdout)
    assert key is not None, made.stdout
    with running(TOPOLOGY, "--data", str(data)) as program:
        page = visit.show(program.console, expected=f"401|{GONE}", key=key[0])
        chip(page, "Live")
        portico("keys", "revoke", "watcher", "--data", str(data), folder=tmp_path)
        expect(page.get_by_role("alert")).to_contain_text("does not take that key", timeout=30_000)


@pytest.mark.timeout(120)
def test_a_key_without_admin_sees_the_tree_and_its_own_runs_and_may_do_nothing_to_agents(visit: Visit, tmp_path: Path) -> None:
    data = tmp_path / "data"
    made = portico("keys", "create", "reader", "--scope", "read", "--data", str(data), folder=tmp_path)
    key = re.search(r"\S{30,}", made.stdout)
    assert key is not None, made.stdout
    with running(TOPOLOGY, "--data", str(data)) as program:
        page = visit.show(f"{program.console}#/tree/echo", expected=f"403|{GONE}", key=key[0])
        chip(page, "Not live")
        expect(page.get_by_role("status").filter(has_text='no scope "admin"')).to_be_visible()
        expect(page.get_by_role("button", name="Restart")).to_be_disabled()
        page.get_by_role("link", name="Runs", exact=True).click()
        expect(page.get_by_text("No runs yet")).to_be_visible()
        nap = {"agent": "slow", "operation": "nap", "payload": {"seconds": 60}}
        started = httpx.post(f"{program.url}/runs", json=nap, headers={"Authorization": f"Bearer {key[0]}"}, timeout=20)

        page.locator(f"[data-run='{started.json()['run_id']}']").click(timeout=20_000)
        page.get_by_role("button", name="Cancel run").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel the run").click()

        expect(page.locator(".run-head .status")).to_contain_text("cancelled")


@pytest.mark.timeout(120)
def test_from_another_machine_the_page_says_what_it_may_not_show_without_authentication(visit: Visit) -> None:
    with running(TOPOLOGY, "--allowed-host", ELSEWHERE, "--allowed-host", "127.0.0.1") as program:
        started = httpx.post(f"{program.url}/runs", json={"agent": "slow", "operation": "nap", "payload": {"seconds": 0}})
        page = visit.show(program.console.replace("127.0.0.1", ELSEWHERE) + "#/tree/echo", expected="404|Cross-Origin-Opener")
        chip(page, "Not live")
        expect(page.get_by_role("status").filter(has_text="for the gateway's own machine alone")).to_be_visible()
        expect(page.get_by_role("button", name="Restart")).to_be_disabled()
        page.get_by_role("link", name="Audit").click()
        expect(page.get_by_text("The audit trail is not shown here")).to_be_visible()
        page.get_by_role("link", name="Waiting").click()
        expect(page.get_by_text("Nothing waits for an answer")).to_be_visible()
        page.get_by_role("link", name="Runs").click()
        expect(page.locator(f"[data-run='{started.json()['run_id']}']")).to_be_visible()
        expect(page.locator(".list-foot")).to_contain_text("for the gateway's own machine alone")


FLOOD = """
{
  const own = window.fetch;
  const bodies = [[5000, 1200], [50000, 86400]];
  const text = (number, kind, data) => `id: a-${number}\\nevent: ${kind}\\ndata: ${JSON.stringify(data)}\\n\\n`;
  const happened = (number, at) => {
    const name = ["echo", "baker", "slow"][number % 3];
    const kinds = [
      ["process.status", {before: "running", status: "restarting"}],
      ["process.crashed", {error: {type: "RuntimeError", message: `crash ${number} ${"x".repeat(300)}`}}],
      ["process.restarted", {}],
      ["process.status", {before: "restarting", status: "running"}],
      ["message.dead_letter", {reason: `nobody ${number}`}],
    ];
    const [kind, data] = kinds[number % kinds.length];
    return text(number, kind, {at, name, ...data});
  };
  const figures = (number, at) => text(number, "figures", {at,
    calls: {admitted: number, ok: number, failed: 0, rejected: 0, in_flight: 3},
    latency_ms: {p50: 1, p95: 2, p99: 3}, loop_lag_ms: 0.1, agents: {echo: {depth: number % 9}}});
  const open = ([events, seconds]) => {
    const now = Date.now() / 1000;
    let number = 0;
    const next = () => number < events ? happened(number++, now) : figures(number++, now - 100000 + number - events);
    const pull = (control) => {
      if (number >= events + seconds) return control.close();
      let chunk = number ? "" : text(0, "hello", {life: "a", version: "0", started_at: now});
      for (let one = 0; one < 200 && number < events + seconds; one++) chunk += next();
      control.enqueue(new TextEncoder().encode(chunk));
    };
    return new Response(new ReadableStream({pull}), {headers: {"content-type": "text/event-stream"}});
  };
  window.fetch = async (url, options) => {
    if (!String(url).includes("/events?")) return own(url, options);
    const body = bodies.shift();
    return body ? open(body) : new Response("{}", {status: 503, headers: {"retry-after": "600"}});
  };
}
"""
"""Two answers of `/events`, made in the page: some events and figures, then fifty thousand, and the figures of a day."""


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("view", "last"), [("traffic", 4996), ("tree/echo", 4986)])
def test_a_page_that_is_open_for_a_day_keeps_what_is_bounded(visit: Visit, program: Program, view: str, last: int) -> None:
    page = visit.show(f"{program.console}#/{view}", script=FLOOD)
    session: Any = page.context.new_cdp_session(page)
    session.send("Performance.enable")

    def weighed() -> dict[str, float]:
        page.request_gc()
        return {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}

    expect(page.get_by_text(f"crash {last} ").first).to_be_visible(timeout=20_000)
    before = weighed()
    expect(page.get_by_text(f"crash {last + 45_000} ").first).to_be_visible(timeout=60_000)
    expect(page.locator("[data-connection]")).to_have_text("Offline", timeout=60_000)
    after = weighed()

    assert after["JSHeapUsedSize"] - before["JSHeapUsedSize"] < KEPT_BYTES
    assert after["Nodes"] - before["Nodes"] < 2000
    assert after["JSEventListeners"] - before["JSEventListeners"] < 100


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_ten_thousand_agents_are_as_quick_as_ten(visit: Visit, tmp_path: Path) -> None:
    lines = [f"        - {{module: tests.console.agents, class: Echo, name: echo-{number:05}}}" for number in range(10_000)]
    agents = "\n".join(
        [*lines, "        - {module: tests.console.agents, class: Echo, name: seen, expose: true}"]
    )  # no other has routes
    topology = tmp_path / "many.yaml"
    topology.write_text(
        f"supervision:\n  name: root\n  children:\n    - supervisor:\n        name: crowd\n        children:\n{agents}\n", "utf-8"
    )
    with running(topology) as program:
        page = visit.show(program.console, expected=GONE)
        tree = page.get_by_role("treegrid")
        expect(tree).to_have_attribute("aria-rowcount", "10004", timeout=30_000)
        chip(page, "Live")
        tree.focus()
        page.keyboard.press("End")
        expect(page.get_by_role("row", name=re.compile("seen"))).to_be_visible()
        assert page.get_by_role("row").count() < 80
        page.get_by_label("Filter by name").fill("echo-0777")
        expect(tree).to_have_attribute("aria-rowcount", "13")
        httpx.post(f"{program.url}/agents/echo-07770/suspend", json={"reason": "enough"}, timeout=30).raise_for_status()
        expect(page.get_by_role("row", name=re.compile("echo-07770"))).to_contain_text("suspended")
