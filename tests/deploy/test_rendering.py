"""The chart's objects, judged without a cluster."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.core.lanes_file import parse_lanes
from tests.deploy.command import Failed, attempt, run
from tests.deploy.image import ROOT
from tests.deploy.rendering import GOLDEN, VALUES, helm, objects, render
from tests.deploy.tools import folder
from tests.support.chart import CHART

pytestmark = [pytest.mark.usefixtures("tools"), pytest.mark.timeout(3600)]

EXCEPTIONS = {
    "CKV_K8S_11": "no processor limit: a replica that is throttled loses its leases",
    "CKV_K8S_15": "images are named by digest or by a version's tag, neither of which moves",
    "CKV_K8S_43": "the digest is the user's, whose registry holds the image; split.yaml shows it",
    "CPU limit is not set": "as CKV_K8S_11",
    "ImagePullPolicy is not set to Always": "as CKV_K8S_15",
    "Deployment does not have a host podAntiAffinity set": "topologySpreadConstraints spread the replicas",
}
"""What checkov and kube-score find in every rendering, each with its reason."""
OWN_EXCEPTIONS = {
    "security": {
        "CKV_K8S_40": "the platform gives the user ids",
        "The container is running with a low user ID": "the platform gives it, and runAsNonRoot holds it to that",
        "The container running with a low group ID": "the platform gives it",
    },
    "nothing": {
        "CKV2_K8S_6": "network policies are switched off",
        "The pod does not have a matching NetworkPolicy": "they are switched off",
        "Deployment few replicas": "one was asked for",
    },
    "keda": {"Deployment few replicas": "KEDA says how many"},
    "everything": {
        "Deployment few replicas": "KEDA says how many; the simulator is one",
        "Deployment update strategy": "the simulator's state is one process's",
        "Container has the same readiness and liveness probe": "the simulator has one page",
    },
}
"""What they find in some."""


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The file of each rendering, by the name of its values."""
    place = tmp_path_factory.mktemp("rendered")
    found = {name: place / f"{name}.yaml" for name in VALUES}
    for name, file in found.items():
        file.write_text(render(name))
    return found


@pytest.mark.parametrize("name", VALUES)
def test_helm_lints_the_chart_strictly(name: str) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART, f"--values={VALUES[name]}")


@pytest.mark.parametrize("name", VALUES)
def test_a_rendering_is_what_was_reviewed(name: str, rendered: dict[str, Path]) -> None:
    golden = GOLDEN / f"{name}.yaml"
    same = golden.exists() and golden.read_text() == rendered[name].read_text()
    assert same, f"{golden.relative_to(ROOT)} differs: make golden, and review the difference"


@pytest.mark.parametrize("name", VALUES)
def test_kubernetes_and_the_operators_know_every_field(name: str, rendered: dict[str, Path]) -> None:
    schemas = folder() / "schemas"
    told = run(
        *(folder() / "bin" / "kubeconform", "-strict", "-summary", "-kubernetes-version", "1.36.0"),
        *(
            "-schema-location",
            f"{schemas}/v1.36.0-local{{{{.StrictSuffix}}}}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
        ),
        *("-schema-location", f"{schemas}/{{{{.Group}}}}/{{{{.ResourceKind}}}}_{{{{.ResourceAPIVersion}}}}.json"),
        rendered[name],
    )
    count = len(objects(rendered[name].read_text()))
    assert f"Valid: {count}, Invalid: 0, Errors: 0, Skipped: 0" in told


def test_a_field_that_nobody_knows_is_found(rendered: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(rendered["keda"].read_text().replace("minReplicaCount:", "minReplicas:"))
    with pytest.raises(Failed, match="minReplicas"):
        test_kubernetes_and_the_operators_know_every_field("keda", {"keda": file})


def test_the_charts_own_tests_pass() -> None:
    told = run(folder() / "bin" / "helm-unittest", "--strict", CHART)
    assert re.search(r"Tests:\s+(\d+) passed, \1 total", told), told


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("settings.intake.linger_seconds=-1", "minimum: got -1, want 0"),
        ("replica=1", "additional properties 'replica' not allowed"),
        ("provider.apiKey.value=sk-secret", "additional properties 'value' not allowed"),
        ("spool.medium=Memory", "the spool belongs on a disk"),
        ("postgres.host=", "postgres.host is empty: name the server"),
        ("kafka.bootstrapServers={kafka}", 'kafka.bootstrapServers has "kafka": give each broker as host:port'),
        ("provider.baseUrl=http://a b:c", 'provider.baseUrl is "http://a b:c": give the API\'s root'),
    ],
)
def test_values_that_cannot_work_are_refused_with_the_mend(wrong: str, said: str) -> None:
    with pytest.raises(Failed) as refused:
        render("default", f"--set={wrong}")
    assert said in str(refused.value)


@pytest.mark.parametrize("name", VALUES)
def test_checkov_finds_only_what_has_a_reason(name: str, rendered: dict[str, Path]) -> None:
    checkov = folder() / "checkers" / "bin" / "checkov"
    options = "--framework kubernetes --skip-download --compact --quiet --output json"
    told = json.loads(attempt(checkov, "--file", rendered[name], *options.split()).stdout)
    assert told["summary"]["parsing_errors"] == 0
    assert told["summary"]["passed"] > 50
    failed = {each["check_id"]: each["check_name"] for each in told["results"]["failed_checks"]}
    allowed = EXCEPTIONS.keys() | OWN_EXCEPTIONS.get(name, {}).keys()
    if name == "split":
        allowed -= {"CKV_K8S_43"}
    assert failed.keys() - allowed == set(), failed


@pytest.mark.parametrize("name", VALUES)
def test_kube_score_finds_only_what_has_a_reason(name: str, rendered: dict[str, Path]) -> None:
    told = attempt(folder() / "bin" / "kube-score", "score", "--output-format=ci", rendered[name]).stdout
    found = [line for line in told.splitlines() if line.startswith(("[CRITICAL]", "[WARNING]"))]
    assert "[OK]" in told
    allowed = (*EXCEPTIONS, *OWN_EXCEPTIONS.get(name, {}))
    assert [each for each in found if not each.endswith(allowed)] == []


def test_a_package_holds_what_is_installed_and_none_of_the_charts_own_tests(tmp_path: Path) -> None:
    helm("package", CHART, "--destination", tmp_path)
    [package] = tmp_path.glob("*.tgz")
    held = run("tar", "-tzf", package).split()
    for each in ("templates/tests/ask.yaml", "files/rules.yaml", "values.schema.json", "examples/demo.yaml"):
        assert f"penstock/{each}" in held
    assert [each for each in held if each.startswith("penstock/tests/")] == []


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    assert run(folder() / "checkers" / "bin" / "hadolint", ROOT / "Dockerfile") == ""


def test_the_lanes_files_are_such_as_the_service_takes(rendered: dict[str, Path]) -> None:
    found = [each for file in rendered.values() for each in objects(file.read_text()) if each["kind"] == "ConfigMap"]
    texts = [each["data"]["lanes.toml"] for each in found if "lanes.toml" in each["data"]]
    assert len(texts) >= 3
    for each in texts:
        parse_lanes(tomllib.loads(each))


def test_no_secret_is_in_a_rendering(rendered: dict[str, Path]) -> None:
    kinds = {each["kind"] for file in rendered.values() for each in objects(file.read_text())}
    assert "Secret" not in kinds


def test_pods_of_jobs_are_no_replicas(rendered: dict[str, Path]) -> None:
    everything = objects(rendered["everything"].read_text())
    selectors = [each["spec"]["selector"] for each in everything if each["kind"] == "Service"]
    pods = [each["spec"]["template"]["metadata"]["labels"] for each in everything if each["kind"] == "Job"]
    assert len(pods) == 3
    assert [(s, p) for s in selectors for p in pods if s.items() <= p.items()] == []


@pytest.mark.parametrize("name", VALUES)
def test_every_pod_is_found_by_one_network_policy(name: str, rendered: dict[str, Path]) -> None:
    if name == "nothing":
        pytest.skip("it has none")
    found = objects(rendered[name].read_text())
    policies = [each["spec"] for each in found if each["kind"] == "NetworkPolicy"]
    assert all(each["policyTypes"] == ["Ingress", "Egress"] for each in policies)
    for each in found:
        if each["kind"] in ("Deployment", "Job"):
            labels = each["spec"]["template"]["metadata"]["labels"]
            assert sum(p["podSelector"]["matchLabels"].items() <= labels.items() for p in policies) == 1, labels


def test_rules_and_dashboard_are_those_of_deploy(rendered: dict[str, Path]) -> None:
    found: dict[str, Any] = {each["kind"]: each for each in objects(rendered["everything"].read_text())}
    text = (ROOT / "deploy" / "prometheus" / "rules.yaml").read_text()
    rooted = text.replace(" deploy/runbooks/", " https://git.example.com/penstock/blob/main/deploy/runbooks/")
    assert found["PrometheusRule"]["spec"] == yaml.safe_load(rooted) != yaml.safe_load(text)
    [dashboard] = [
        each["data"]["penstock.json"]
        for each in objects(rendered["everything"].read_text())
        if each["metadata"]["name"] == "penstock-dashboard"
    ]
    assert json.loads(dashboard) == json.loads((ROOT / "deploy" / "grafana" / "penstock.json").read_text())
