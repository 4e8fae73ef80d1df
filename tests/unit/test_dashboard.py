"""The dashboard against the catalogue of metrics, and against the room that Grafana has for its panels."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.promql import known_series, labels_of, mistakes
from tests.support.reference import catalogue

DEPLOY = Path(__file__).parents[2] / "deploy"
BOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "penstock.json").read_text())
PANELS: list[dict[str, Any]] = BOARD["panels"]
SHOWN = [each for each in PANELS if each["type"] != "row"]
KNOWN = known_series(catalogue())
VARIABLES = {each["name"]: each for each in BOARD["templating"]["list"]}
PER_LANE = {name for name, labels in KNOWN.items() if "lane" in labels}


@pytest.mark.parametrize("panel", SHOWN, ids=lambda panel: panel["title"])
def test_a_panel_asks_for_what_there_is_of_what_was_chosen(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        asked = target["expr"]
        assert mistakes(asked, KNOWN) == []
        for metric, selector in re.findall(r"(penstock_\w+)(\{[^}]*\})?", asked):
            assert selector.startswith('{namespace=~"$namespace", job=~"$job"'), asked
            assert ('lane=~"$lane"' in selector) == (metric in PER_LANE), asked
        named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert named <= {each.label for each in labels_of(asked)} | ({"instance"} if "(" not in asked else set())


@pytest.mark.parametrize("panel", SHOWN, ids=lambda panel: panel["title"])
def test_a_panel_can_be_read(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert {each["datasource"]["uid"] for each in [panel, *panel["targets"]]} == {"${datasource}"}


def test_a_healthy_deployment_hides_no_stuck_one_and_no_ratio_is_of_two() -> None:
    asked = [target["expr"] for panel in SHOWN for target in panel["targets"]]
    judged = [each for each in asked if "max by" in each and re.search(r" / |time\(\) - |actionable", each)]
    assert len(judged) == 6
    for each in judged:
        for labels in re.findall(r"max by \(([^)]*)\)", each):
            assert {"namespace", "job"} <= set(labels.split(", ")), each


def test_the_rows_are_the_four_questions() -> None:
    rows = [each["title"] for each in PANELS if each["type"] == "row"]
    assert [each.split()[-1] for each in rows] == ["through?", "waiting?", "save?", "risk?"]


def test_no_panel_lies_over_another() -> None:
    taken: set[tuple[int, int]] = set()
    for each in PANELS:
        at = each["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, each["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({each["id"] for each in PANELS}) == len(PANELS)


def test_variables_choose_among_what_is_scraped() -> None:
    assert set(VARIABLES) == {"datasource", "namespace", "job", "lane"}
    for each in VARIABLES.values():
        if each["type"] == "query":
            match = re.fullmatch(r"label_values\((.*), (\w+)\)", each["query"]["query"])
            assert match
            assert mistakes(f"group by ({match[2]}) ({match[1]})", KNOWN) == []
            assert each["allValue"] == ".*", "deployments outside Kubernetes have no namespace"


def test_what_compose_mounts_and_provisions_is_there() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for each in services.values():
        assert not each["image"].endswith(":latest")
        assert ":" in each["image"]
        assert all(port.startswith("127.0.0.1:") for port in each.get("ports", []))
    mounts = [each.split(":") for name in ("prometheus", "grafana") for each in services[name]["volumes"]]
    files = {inside: DEPLOY / outside for outside, inside, *_ in mounts if outside.startswith("./")}
    assert all(each.exists() for each in files.values())
    config = yaml.safe_load(files["/etc/prometheus/prometheus.yaml"].read_text())
    [scraped] = [name for job in config["scrape_configs"] for each in job["dns_sd_configs"] for name in each["names"]]
    assert services[scraped]["ports"] == ["127.0.0.1:8080-8089:8080"], "a port for each replica of --scale"
    assert all(each in files for each in config["rule_files"])
    provisioning = files["/etc/grafana/provisioning"]
    [provider] = yaml.safe_load((provisioning / "dashboards" / "penstock.yaml").read_text())["providers"]
    assert f"{provider['options']['path']}/penstock.json" in files
    [source] = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
