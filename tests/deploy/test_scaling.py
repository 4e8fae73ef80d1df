"""What the queries of scaling answer: work that could be done now, and no other."""

import json
from pathlib import Path

import pytest

from tests.deploy.command import run
from tests.deploy.rendering import objects, render
from tests.deploy.tools import folder

pytestmark = [pytest.mark.usefixtures("tools"), pytest.mark.timeout(3600)]

Series = dict[str, int]
"""Values by `metric|pod|further labels`."""

INTAKE = "penstock-intake-7d9f8b6c5-abcde"
SECOND = "penstock-intake-7d9f8b6c5-fghij"
SUBMIT = "penstock-submit-6c8d5f9b7-klmno"
OTHER_RELEASE = "penstock-two-intake-7d9f8b6c5-abcde"
LAG = "penstock_consumer_lag_records"
PAUSED = "penstock_backlog_paused"
HELD = "penstock_topic_paused"
ASSIGNED = "penstock_partitions_assigned"
ACTIONABLE = "penstock_actionable_work"
AWAY, HALTED = "penstock_provider_away", "penstock_account_halted"


def query(workload: str) -> str:
    """The query by which a Deployment is scaled."""
    found = {each["metadata"]["name"]: each for each in objects(render("keda")) if each["kind"] == "ScaledObject"}
    [trigger] = found[workload]["spec"]["triggers"]
    text: str = trigger["metadata"]["query"]
    return text


def answer(folder_: Path, workload: str, series: Series, expected: int | None) -> None:
    """Have Prometheus' own engine evaluate the query over series that stand still."""
    names = []
    for key, value in series.items():
        metric, pod, labels = key.split("|")
        text = f'{metric}{{namespace="work",pod="{pod}"{"," if labels else ""}{labels}}}'
        names.append({"series": text, "values": f"{value}x10"})
    samples = [] if expected is None else [{"labels": "{}", "value": expected}]
    case = {
        "interval": "1m",
        "input_series": names,
        "promql_expr_test": [{"expr": query(workload), "eval_time": "5m", "exp_samples": samples}],
    }
    file = folder_ / "case.yaml"
    file.write_text(json.dumps({"evaluation_interval": "1m", "tests": [case]}))
    assert "SUCCESS" in run(folder() / "bin" / "promtool", "test", "rules", file)


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        pytest.param(
            {f'{LAG}|{INTAKE}|topic="a"': 60_000, f'{LAG}|{SECOND}|topic="a"': 5_000, f"{ASSIGNED}|{INTAKE}|": 6},
            65_000,
            id="the lag of all replicas",
        ),
        pytest.param(
            {f'{LAG}|{INTAKE}|topic="a"': 900_000, f"{ASSIGNED}|{INTAKE}|": 1, f"{ASSIGNED}|{SECOND}|": 2},
            150_000,
            id="no more than a replica for each partition",
        ),
        pytest.param(
            {
                f'{LAG}|{INTAKE}|topic="a"': 70_000,
                f'{LAG}|{INTAKE}|topic="b"': 40_000,
                f'{PAUSED}|{SUBMIT}|topic="a"': 1,
                f'{PAUSED}|{SUBMIT}|topic="b"': 0,
                f"{ASSIGNED}|{INTAKE}|": 6,
            },
            40_000,
            id="not that of a topic whose intake is paused",
        ),
        pytest.param(
            {
                f'{LAG}|{INTAKE}|topic="a"': 70_000,
                f'{PAUSED}|{SUBMIT}|topic="a"': 1,
                f"{ASSIGNED}|{INTAKE}|": 6,
            },
            0,
            id="nothing while all are paused",
        ),
        pytest.param(
            {
                f'{LAG}|{INTAKE}|topic="a"': 70_000,
                f'{LAG}|{INTAKE}|topic="b"': 40_000,
                f'{PAUSED}|{SUBMIT}|topic="a"': 0,
                f'{HELD}|{SUBMIT}|topic="a"': 1,
                f'{HELD}|{SUBMIT}|topic="b"': 0,
                f"{ASSIGNED}|{INTAKE}|": 6,
            },
            40_000,
            id="not that of a topic which an operator has paused",
        ),
        pytest.param(
            {
                f'{LAG}|{INTAKE}|topic="a"': 10,
                f'{LAG}|{OTHER_RELEASE}|topic="a"': 90_000,
                f"{ASSIGNED}|{INTAKE}|": 6,
            },
            10,
            id="not that of another release",
        ),
        pytest.param({}, None, id="unknown while nothing is scraped"),
    ],
)
def test_intake_follows_lag_that_it_may_work_off(tmp_path: Path, series: Series, expected: int | None) -> None:
    answer(tmp_path, "penstock-intake", series, expected)


@pytest.mark.parametrize(("workload", "stage"), [("penstock-submit", "submitter"), ("penstock-publish", "publisher")])
def test_the_others_follow_the_work_of_their_stage(tmp_path: Path, workload: str, stage: str) -> None:
    series = {
        f'{ACTIONABLE}|{INTAKE}|stage="submitter",account="a"': 3 if stage == "submitter" else 50,
        f'{ACTIONABLE}|{INTAKE}|stage="publisher",account="a"': 3 if stage == "publisher" else 50,
        f'{ACTIONABLE}|{OTHER_RELEASE}|stage="{stage}",account="a"': 99,
    }
    answer(tmp_path, workload, series, 3)
    for metric in (AWAY, HALTED):
        accounts = {
            f'{ACTIONABLE}|{INTAKE}|stage="{stage}",account="{account}"': work
            for account, work in (("a", 40), ("b", 5))
        }
        unable = {f'{metric}|{SUBMIT}|account="a"': 1, f'{metric}|{SUBMIT}|account="b"': 0}
        answer(tmp_path, workload, accounts | unable, 5)
        answer(tmp_path, workload, accounts | unable | {f'{metric}|{SECOND}|account="b"': 1}, 0)
    answer(tmp_path, workload, {}, None)
