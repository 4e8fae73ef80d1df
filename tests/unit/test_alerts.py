"""Rules, their tests and runbooks against each other and the catalogue of metrics; `make test-deploy` runs promtool."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import penstock
from penstock.cli.app import app
from penstock.settings import Settings
from penstock.variables import setting_names
from tests.support.promql import SCRAPED, known_series, labels_of, metrics_of, mistakes, tokens
from tests.support.reference import catalogue

DEPLOY = Path(__file__).parents[2] / "deploy"
KNOWN = known_series(catalogue())
NAMED = KNOWN | {each.name: frozenset(each.labels) for each in catalogue().values()}
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text())["groups"]
    for rule in group["rules"]
]
TESTS: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "prometheus" / "rules_test.yaml").read_text())["tests"]
HEADINGS = ["Look at", "Do", "Is it safe to wait?"]
EVENT = re.compile(r"[a-z]+\.[a-z_]+")
SOURCE = "".join(each.read_text() for each in Path(penstock.__file__).parent.rglob("*.py"))
SETTINGS = frozenset(setting_names(Settings))
SERIES = re.compile(r"(\w+)\{(.*)\}")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_metrics_and_labels_that_there_are(rule: dict[str, Any]) -> None:
    assert metrics_of(rule["expr"])
    assert mistakes(rule["expr"], KNOWN) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_is_of_one_deployment_and_says_what_is_the_matter(rule: dict[str, Any]) -> None:
    asked = [each.label for each in labels_of(rule["expr"])]
    assert {"namespace", "job"} <= set(asked)
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["description"].endswith(".")
    told = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    assert told <= {*asked, *(text.strip('"') for kind, text in tokens(rule["expr"]) if kind == "text")}


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    books = {f"deploy/runbooks/{each.name}" for each in (DEPLOY / "runbooks").iterdir()}
    assert {rule["annotations"]["runbook_url"] for rule in RULES} == books
    assert all(rule["annotations"]["runbook_url"].endswith(f"/{rule['alert']}.md") for rule in RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_is_tested_both_ways(rule: dict[str, Any]) -> None:
    name = rule["alert"]
    cases = [each for each in TESTS if each["name"].startswith(f"{name}: ")]
    fired = [name in str([each["exp_samples"] for each in case["promql_expr_test"]]) for case in cases]
    assert set(fired) == {True, False}, f"{name}: {fired}"


def test_every_case_is_of_an_alert() -> None:
    assert {each["name"].partition(":")[0] for each in TESTS} == {each["alert"] for each in RULES}


def test_every_series_of_a_case_has_the_labels_that_it_really_has() -> None:
    for case in TESTS:
        for each in case["input_series"]:
            match = SERIES.fullmatch(each["series"])
            assert match, each["series"]
            labels = set(re.findall(r'(\w+)="', match[2]))
            assert labels - SCRAPED == KNOWN[match[1]], each["series"]


@pytest.mark.parametrize("book", sorted((DEPLOY / "runbooks").iterdir()), ids=lambda book: book.stem)
def test_a_runbook_names_what_there_is(book: Path) -> None:
    text = book.read_text()
    assert re.findall(r"^#+ (.*)$", text, re.MULTILINE) == [book.stem, *HEADINGS]
    for quoted in re.findall(r"`([^`]+)`", text):
        if "penstock_" in quoted:
            assert mistakes(quoted, NAMED) == []
        if EVENT.fullmatch(quoted):
            assert f'"{quoted}"' in SOURCE or quoted.startswith("operator."), f"{quoted} is never logged"
        if quoted.startswith("PENSTOCK_"):
            assert quoted in SETTINGS, quoted
        if re.match(r"penstock [a-z]", quoted):
            told = CliRunner().invoke(app, [*quoted.split()[1:], "--help"])  # what it does not know, it refuses first
            assert told.exit_code == 0, told.output
    for page, section in re.findall(r"\]\(([^)#]+)#?([^)]*)\)", text):
        sections = re.findall(r"^#+ (.*)$", (book.parent / page).read_text(), re.MULTILINE)
        assert section in ("", *(re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in sections)), section
    assert set(re.findall(r"Penstock[A-Z]\w+", text)) <= {rule["alert"] for rule in RULES}


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("sum(rate(penstock_result_published_total[5m]))", ["no metric penstock_result_published_total"]),
        ('penstock_queue_requests{state="sealed"}', ["no label state of penstock_queue_requests"]),
        ("sum by (lane) (penstock_backlog_bytes)", ["no label lane of penstock_backlog_bytes"]),
        (
            "sum by (lane) (penstock_backlog_bytes) / on (lane) sum by (lane) (penstock_queue_bytes)",
            ["no label lane of penstock_backlog_bytes"],
        ),
        ("up == 0 and on (phase) penstock_slots_halted", ["no label phase of penstock_slots_halted, up"]),
        ("rate(penstock_phase_seconds_bucket{le='60', phase=~\"sealed|window\"}[5m] offset 1h)", []),
        ("histogram_quantile(0.9, sum by (le, phase) (rate(penstock_phase_seconds_bucket[$__rate_interval])))", []),
        ("penstock_phase_seconds", ["no metric penstock_phase_seconds"]),
    ],
)
def test_what_is_not_there_is_found(expression: str, said: list[str]) -> None:
    assert mistakes(expression, KNOWN) == said
