"""Rules and the dashboard's queries, judged by Prometheus itself."""

import json
from pathlib import Path

import pytest

from tests.deploy.command import Failed, run
from tests.deploy.image import ROOT

PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "penstock.json"


def test_every_alert_fires_when_it_must_and_not_otherwise(tools: Path) -> None:
    run(tools / "promtool", "check", "rules", PROMETHEUS / "rules.yaml")
    run(tools / "promtool", "test", "rules", PROMETHEUS / "rules_test.yaml")


def test_a_rule_that_never_fires_is_found(tools: Path, tmp_path: Path) -> None:
    rules = (PROMETHEUS / "rules.yaml").read_text()
    (tmp_path / "rules.yaml").write_text(rules.replace("penstock_in_doubt_age_seconds) > 600", "vector(0)) > 600"))
    (tmp_path / "rules_test.yaml").write_text((PROMETHEUS / "rules_test.yaml").read_text())
    with pytest.raises(Failed, match="PenstockCreateInDoubt"):
        run(tools / "promtool", "test", "rules", tmp_path / "rules_test.yaml")


def test_prometheus_parses_every_query_of_the_dashboard(tools: Path) -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [each["expr"] for panel in panels for each in panel.get("targets", ())]
    assert queries
    for each in queries:
        given = each.replace("$__rate_interval", "5m").replace("$__range", "1h")
        run(tools / "promtool", "promql", "--experimental", "format", given)
