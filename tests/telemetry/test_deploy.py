"""The dashboard and the rules in `deploy/` ask for metrics and labels that there are: checked against what a gateway shows."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml

from portico import errors
from portico.telemetry.instruments import INSTRUMENTS
from portico.telemetry.semconv import SPANS_LOST
from tests.cli.programs import REPOSITORY
from tests.telemetry.everything import families_of
from tests.telemetry.promql import SCRAPED, asked_by, left_by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.telemetry.everything import Shown

DEPLOY = REPOSITORY / "deploy"
DASHBOARD = DEPLOY / "grafana" / "portico.json"
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
BUILT_IN = {"__rate_interval": "5m", "__range": "1h", "__interval": "1m"}
"""Variables that Grafana has by itself."""


def dashboard() -> dict[str, Any]:
    return json.loads(DASHBOARD.read_text())


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def groups() -> list[dict[str, Any]]:
    return yaml.safe_load(ALERTS.read_text())["groups"]


def rules() -> list[dict[str, Any]]:
    return [rule for group in groups() for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression, and where it stands."""
    for panel in panels():
        for target in panel["targets"]:
            yield f"panel {panel['title']!r}", target["expr"]
    for rule in rules():
        yield f"rule {rule.get('alert') or rule['record']!r}", rule["expr"]


def without_variables(expression: str) -> str:
    for name, value in BUILT_IN.items():
        expression = expression.replace(f"${name}", value)
    return expression


def labels_of(shown: Shown) -> dict[str, frozenset[str]]:
    """The labels that each sample of a gateway has, by name; for Prometheus' functions, those of histograms' buckets too."""
    found: dict[str, set[str]] = {}
    for family in families_of(shown.modern):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    there = {name: frozenset(labels | SCRAPED) for name, labels in found.items()} | {"up": SCRAPED}
    there[f"{INSTRUMENTS[SPANS_LOST].family}_total"] = SCRAPED  # which only a gateway has that sends spans
    return there | {rule["record"]: left_by(rule["expr"], there) for rule in rules() if "record" in rule}


def test_every_expression_asks_for_what_there_is(shown: Shown) -> None:
    there = labels_of(shown)
    for where, expression in expressions():
        asked = asked_by(without_variables(expression))
        assert asked.metrics, where
        for metric, chosen in asked.metrics.items():
            assert metric in there, f"{where}: no metric {metric}"
            assert chosen <= there[metric], f"{where}: {metric} has no labels {chosen - there[metric]}"
        everywhere = frozenset[str]().union(*(there[metric] for metric in asked.metrics))
        assert asked.labels <= everywhere, f"{where}: nothing has the labels {asked.labels - everywhere}"


def test_every_label_that_a_legend_or_a_sentence_names_is_there(shown: Shown) -> None:
    there = labels_of(shown)
    said = [(panel["title"], target["expr"], target["legendFormat"]) for panel in panels() for target in panel["targets"]]
    said += [(rule["alert"], rule["expr"], " ".join(rule["annotations"].values())) for rule in rules() if "alert" in rule]
    for where, expression, text in said:
        left = left_by(without_variables(expression), there)
        named = set(re.findall(r"{{\s*(?:\$labels\.)?([a-z_]+)\s*}}", text))
        assert named <= left, f"{where}: {named - left}"


def test_every_outcome_that_is_chosen_is_the_slug_of_an_error() -> None:
    slugs = {error.slug for error in all_errors(errors.PorticoError)}
    for where, expression in expressions():
        values = asked_by(without_variables(expression)).values
        for outcome in values.get("outcome", set()) | values.get("reason", set()):
            assert outcome in slugs | {"ok", "failed"}, f"{where}: {outcome}"


def all_errors(kind: type[errors.PorticoError]) -> set[type[errors.PorticoError]]:
    return {kind}.union(*(all_errors(one) for one in kind.__subclasses__()))


def test_every_instrument_is_on_the_dashboard_or_in_a_rule(shown: Shown) -> None:
    asked = {metric for _, expression in expressions() for metric in asked_by(without_variables(expression)).metrics}
    named = {re.sub(r"_(bucket|count|sum|total|info)$", "", metric) for metric in asked}
    families = {family.name for family in families_of(shown.modern) if not family.name.startswith("process_")}

    assert families - named == {"portico_mcp_upstream_tools", "portico_mcp_upstream_reconnects"}


def test_every_variable_of_the_dashboard_is_used_and_there_is_no_other() -> None:
    text = DASHBOARD.read_text()
    defined = {variable["name"] for variable in dashboard()["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", text)) - set(BUILT_IN)

    assert used == defined


def test_the_dashboard_imports_as_it_is() -> None:
    board = dashboard()
    ids = [panel["id"] for panel in board["panels"]]

    assert board["id"] is None
    assert board["uid"] == "portico"
    assert len(set(ids)) == len(ids)
    assert "__inputs" not in board
    for panel in panels():
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for other in panels():
            if other["id"] != panel["id"]:
                assert not overlap(place, other["gridPos"]), (panel["title"], other["title"])


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
    below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    return not beside and not below


def test_every_rule_has_a_severity_and_says_what_to_do() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]

    assert len({rule["alert"] for rule in alerts}) == len(alerts) >= 20
    for rule in alerts:
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), rule["alert"]
        assert rule["annotations"]["summary"].endswith("."), rule["alert"]
        assert rule["annotations"]["description"].endswith("."), rule["alert"]


def test_the_example_scrapes_what_the_rules_expect() -> None:
    config: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    (scraped,) = config["scrape_configs"]
    jobs = {value for _, expression in expressions() for value in asked_by(without_variables(expression)).values.get("job", set())}

    assert jobs == {scraped["job_name"]}
    assert scraped["metrics_path"] == "/metrics"
    assert [(DEPLOY / "prometheus" / name).exists() for name in config["rule_files"]] == [True]


def test_the_collectors_example_has_a_pipeline_for_each_signal() -> None:
    config: dict[str, Any] = yaml.safe_load((DEPLOY / "otel-collector.yaml").read_text())
    pipelines = cast("dict[str, Any]", config["service"]["pipelines"])

    assert set(pipelines) == {"traces", "metrics", "logs"}
    for pipeline in pipelines.values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= set(config[kind])


def test_promtool_accepts_the_rules_and_the_example() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus): the rules are parsed, but not by Prometheus itself")
    for check, path in (("rules", ALERTS), ("config", DEPLOY / "prometheus" / "prometheus.yaml")):
        done = subprocess.run([promtool, "check", check, str(path)], capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 0, done.stdout + done.stderr
