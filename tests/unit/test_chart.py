"""The chart, as far as Python alone can judge it; `make test-deploy` does the rest."""

import json
import re
from itertools import chain
from pathlib import Path

import jsonschema
import pytest
import yaml

from penstock import __version__
from penstock.app import STAGES
from penstock.settings import Settings
from penstock.variables import setting_names
from tests.support.chart import CHART, COPIES, FILES, leaves, read_values, template_variables
from tests.support.reference import catalogue

TEMPLATES = sorted(chain(CHART.glob("templates/**/*.yaml"), CHART.glob("templates/**/*.tpl")))
GOLDEN = Path(__file__).parents[1] / "deploy" / "golden"
SCRAPE_LABELS = {"namespace", "pod", "container", "job", "instance", "le"}


@pytest.mark.parametrize("name", FILES)
def test_what_is_made_from_the_values_is_fresh(name: str) -> None:
    assert (CHART / name).read_text() == FILES[name](), f"helm/penstock/{name} is stale: make docs"


@pytest.mark.parametrize("name", COPIES)
def test_the_chart_carries_the_deployments_own_files(name: str) -> None:
    same = (CHART / "files" / name).read_bytes() == COPIES[name].read_bytes()
    assert same, f"helm/penstock/files/{name} is stale: make docs"


def test_the_charts_page_names_every_example() -> None:
    page = (CHART / "README.md").read_text()
    assert [each.name for each in (CHART / "examples").iterdir() if f"`{each.name}`" not in page] == []


def test_every_value_is_described_in_a_sentence() -> None:
    for each in leaves(read_values()):
        assert each.description.endswith((".", ")")), f"{'.'.join(each.path)}: {each.description!r}"


def test_every_object_is_closed_unless_it_is_said() -> None:
    def objects(schema: object) -> list[dict[str, object]]:
        if not isinstance(schema, dict):
            return []
        own = [schema] if schema.get("type") == "object" and "properties" in schema else []
        return own + [found for each in schema.values() for found in objects(each)]

    found = objects(json.loads(FILES["values.schema.json"]()))
    assert len(found) > 30
    assert [each for each in found if each.get("additionalProperties") is not False] == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"replicas": 0}, "less than the minimum"),
        ({"relpicas": 2}, "'relpicas' was unexpected"),
        ({"settings": {"intake": {"linger_seconds": -1}}}, "less than the minimum"),
        ({"settings": {"kafka": {"bootstrap_servers": "a:1"}}}, "'bootstrap_servers' was unexpected"),
        ({"settings": {"log": {"level": "loud"}}}, "'loud' is not one of"),
        ({"kafka": {"bootstrapServers": "kafka:9092"}}, "is not of type 'array'"),
        ({"autoscaling": {"kind": "HPA"}}, "'HPA' is not one of"),
        ({"resources": {"request": {"cpu": "1"}}}, "'request' was unexpected"),
        ({"provider": {"apiKey": {"value": "sk-secret"}}}, "'value' was unexpected"),
    ],
)
def test_the_schema_refuses_what_is_wrong(values: dict[str, object], said: str) -> None:
    schema = json.loads(FILES["values.schema.json"]())
    with pytest.raises(jsonschema.ValidationError, match=said):
        jsonschema.validate(values, schema)


def test_what_has_a_form_is_refused_in_a_sentence_and_by_no_pattern() -> None:
    schema = FILES["values.schema.json"]()
    assert [each for each in ('"pattern"', '"minItems"', '"uniqueItems"') if each in schema] == []


def test_the_schema_takes_the_defaults() -> None:
    schema = json.loads(FILES["values.schema.json"]())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load((CHART / "values.yaml").read_text()), schema)


def test_every_variable_of_the_templates_is_a_setting() -> None:
    assert template_variables() <= set(setting_names(Settings))


def test_every_variable_and_kind_of_the_templates_is_in_a_rendering_that_was_reviewed() -> None:
    reviewed = "\n".join(each.read_text() for each in GOLDEN.glob("*.yaml"))
    templates = "\n".join(each.read_text() for each in TEMPLATES)
    kinds = set(re.findall(r"\bkind: ([A-Z]\w+)", templates)) | set(re.findall(r'"([A-Z]\w+Monitor)"', templates))
    assert {"Deployment", "PodMonitor", "PrometheusRule", "ScaledObject", "KafkaTopic"} <= kinds
    assert kinds <= set(re.findall(r"^kind: (\w+)$", reviewed, re.MULTILINE))
    assert template_variables() <= set(re.findall(r"\bPENSTOCK_[A-Z_]+", reviewed))


def test_every_setting_can_be_set_once() -> None:
    open_settings = json.loads(FILES["values.schema.json"]())["properties"]["settings"]["properties"]
    named = {
        f"PENSTOCK_{section}_{name}".upper()
        for section, schema in open_settings.items()
        for name in schema.get("properties", {})
    } | {f"PENSTOCK_{name}".upper() for name, schema in open_settings.items() if "properties" not in schema}
    left = set(setting_names(Settings)) - named - template_variables()
    assert left == {"PENSTOCK_KAFKA_SASL_PASSWORD", "PENSTOCK_WEBHOOK_SECRET"}, "secrets come as files alone"
    assert named & template_variables() == {"PENSTOCK_PUBLISHER_SLOTS"}, "the Job that makes topics is told of it too"


def test_the_groups_of_stages_are_all_stages_once() -> None:
    text = (CHART / "templates" / "_names.tpl").read_text()
    groups = [each for each in re.findall(r"^  stages: ([a-z,]+)$", text, re.MULTILINE) if each]
    assert sorted(",".join(groups).split(",")) == sorted(STAGES)


def queries() -> str:
    """Every query that the chart holds."""
    return (CHART / "templates" / "_scaling.tpl").read_text()


def test_scaling_asks_for_metrics_and_labels_that_there_are() -> None:
    known = {each.name: each for each in catalogue().values()}
    asked = re.findall(r"\b(penstock_[a-z_]+)\{([^}%]*)", queries())
    assert {name for name, _ in asked} >= {"penstock_consumer_lag_records", "penstock_actionable_work"}
    for name, selector in asked:
        assert name in known, name
        labels = set(re.findall(r'([a-z_]+)=~?"', selector))
        assert labels <= {*known[name].labels, *SCRAPE_LABELS}, (name, labels)
    assert set(re.findall(r'stage="(\w+)"', queries())) <= {"submitter", "publisher"}


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__
    dockerfile = Path(CHART.parents[1], "Dockerfile").read_text()
    assert f"ARG VERSION={__version__}\n" in dockerfile
