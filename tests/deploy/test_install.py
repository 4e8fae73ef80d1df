"""The chart on a real API server, in a namespace that enforces the restricted profile. Nodes are simulated."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.command import Failed
from tests.deploy.control_plane import ControlPlane
from tests.deploy.rendering import VALUES, objects
from tests.support.chart import CHART

pytestmark = pytest.mark.timeout(3600)

SECONDS = 120.0
RELEASE = "penstock"
TOPICS = "kafka"
"""The namespace that keda.yaml names for its topics."""


class Cluster:
    """A release in a namespace of its own."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.plane = plane
        self.namespace = namespace

    def helm(self, *arguments: object) -> str:
        """Run helm in the namespace."""
        return self.plane.helm(*arguments, f"--namespace={self.namespace}")

    def install(self, name: str, *options: object) -> str:
        """Install a file of values, or upgrade to it, and wait for it."""
        command = ("upgrade", "--install", RELEASE, CHART, f"--values={VALUES[name]}")
        return self.helm(*command, "--wait", "--wait-for-jobs", "--timeout=120s", *options)

    def get(self, *arguments: object) -> Any:
        """Objects of the namespace."""
        return self.plane.get(*arguments, f"--namespace={self.namespace}")

    def kubectl(self, *arguments: object, given: str | None = None) -> str:
        """Run kubectl in the namespace."""
        return self.plane.kubectl(*arguments, f"--namespace={self.namespace}", given=given)

    def names(self, kinds: str) -> set[str]:
        """The names of all objects of some kinds."""
        return {f"{each['kind']}/{each['metadata']['name']}" for each in self.get(kinds)["items"]}

    def deployment(self, name: str = RELEASE) -> Any:
        """A Deployment as it is now."""
        return self.get("deployment", name)

    def environment(self, name: str = RELEASE) -> dict[str, str]:
        """The variables of a Deployment's container."""
        [container] = self.deployment(name)["spec"]["template"]["spec"]["containers"]
        return {each["name"]: each.get("value", "") for each in container["env"]}

    def pods(self, component: str = "service") -> list[Any]:
        """The running pods of a part."""
        found = self.get("pods", f"--selector=app.kubernetes.io/component={component}")["items"]
        return [each for each in found if "deletionTimestamp" not in each["metadata"]]


def eventually(ready: Callable[[], bool]) -> None:
    """Wait until it is so."""
    ends_at = time.monotonic() + SECONDS
    while not ready():
        assert time.monotonic() < ends_at, "it never came to that"
        time.sleep(0.2)


@pytest.fixture
def cluster(plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A fresh namespace that takes restricted pods alone."""
    namespace = f"work-{abs(hash(request.node.name)) % 10**8}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}
    for name in (namespace, TOPICS):
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        plane.kubectl("apply", "-f", "-", given=json.dumps(made))
    yield Cluster(plane, namespace)
    plane.kubectl("delete", "kafkatopics", "--all", f"--namespace={TOPICS}")  # they outlive their release
    plane.kubectl("delete", "namespace", namespace, "--wait=false")


def test_a_release_lives_from_install_to_uninstall(cluster: Cluster) -> None:
    said = cluster.install("default")
    assert "helm --namespace" in said, "the notes say what is next"
    assert cluster.deployment()["status"]["readyReplicas"] == 2
    assert "Warning" not in said
    cluster.install("default", "--set=drainSeconds=60")
    assert cluster.environment()["PENSTOCK_DRAIN_SECONDS"] == "60"
    cluster.helm("rollback", RELEASE, 1, "--wait", "--wait-for-jobs", "--timeout=120s")
    assert cluster.environment()["PENSTOCK_DRAIN_SECONDS"] == "25"
    tested = cluster.helm("test", RELEASE, "--timeout=60s")
    assert "penstock-test" in tested, "without a test helm says nothing, and is content"
    assert "Succeeded" in tested
    cluster.helm("uninstall", RELEASE, "--wait", "--timeout=120s")
    kinds = "deployment,job,serviceaccount,service,networkpolicy,poddisruptionbudget,configmap,pod"
    assert cluster.names(kinds) <= {"ServiceAccount/default", "ConfigMap/kube-root-ca.crt"}


@pytest.mark.parametrize("name", VALUES)
def test_every_file_of_values_is_installed(cluster: Cluster, name: str) -> None:
    cluster.install(name, "--set=spool.storageClassName=")  # nobody makes volumes here
    for each in cluster.get("deployment")["items"]:
        assert each["status"]["readyReplicas"] == each["spec"]["replicas"], each["metadata"]["name"]


@pytest.mark.parametrize("name", VALUES)
def test_the_api_server_knows_every_field_of_every_object(cluster: Cluster, name: str) -> None:
    text = cluster.helm("template", RELEASE, CHART, f"--values={VALUES[name]}", "--kube-version=1.36.3")
    known = objects(text)
    assert len(known) >= 2
    applied = cluster.plane.kubectl(
        *("apply", "--dry-run=server", "--server-side", "-f", "-"), given=yaml.safe_dump_all(known)
    )
    assert len(applied.splitlines()) == len(known)


def test_an_object_that_an_operator_would_not_take_is_refused(cluster: Cluster) -> None:
    text = cluster.helm("template", RELEASE, CHART, f"--values={VALUES['keda']}")
    bad = text.replace("maxReplicaCount: 6", "maxReplicaCount: six")
    assert bad != text
    found = [each for each in objects(bad) if each["kind"] == "ScaledObject"]
    with pytest.raises(Failed, match="maxReplicaCount"):
        cluster.kubectl("apply", "--dry-run=server", "-f", "-", given=yaml.safe_dump_all(found))


def test_values_that_cannot_work_never_reach_the_cluster(cluster: Cluster, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("replicas: 0\nspool: {medium: Memory}\nsettings: {kafka: {group: 7}}\nreplica: 3\n")
    with pytest.raises(Failed) as refused:
        cluster.install("default", f"--values={bad}")
    for each in ("additional properties 'replica' not allowed", "got 0, want 1", "got number, want string"):
        assert each in str(refused.value)
    assert cluster.helm("list", "--all", "--short").strip() == ""


def test_a_pod_that_asks_for_more_is_not_admitted(cluster: Cluster) -> None:
    [deployment] = [
        each
        for each in objects(cluster.helm("template", RELEASE, CHART, f"--values={VALUES['default']}"))
        if each["kind"] == "Deployment"
    ]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "taken"}, **deployment["spec"]["template"]}
    pod["metadata"] = {"name": "pod"}
    del pod["spec"]["serviceAccountName"]
    cluster.kubectl("apply", "--dry-run=server", "-f", "-", given=json.dumps(pod))
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(Failed, match="violates PodSecurity"):
        cluster.kubectl("apply", "--dry-run=server", "-f", "-", given=json.dumps(pod))


def test_a_rollout_of_bad_pods_leaves_the_old_ones_at_work(cluster: Cluster) -> None:
    cluster.install("default")
    before = {each["metadata"]["name"] for each in cluster.pods()}
    with pytest.raises(Failed):
        cluster.install("default", "--set=podSecurityContext.runAsNonRoot=false", "--timeout=15s")
    assert {each["metadata"]["name"] for each in cluster.pods()} == before
    assert cluster.deployment()["status"]["readyReplicas"] == 2


def test_a_migration_that_fails_stops_the_upgrade_and_is_rolled_back(cluster: Cluster) -> None:
    cluster.install("default")
    cluster.kubectl("create", "quota", "none", "--hard=pods=0")  # so that the Job gets no pod, and never ends
    with pytest.raises(Failed):
        cluster.install("default", "--set=drainSeconds=60", "--set=migrations.deadlineSeconds=10", "--atomic")
    last = json.loads(cluster.helm("history", RELEASE, "--output=json"))[-1]
    assert (last["status"], last["description"]) == ("deployed", "Rollback to 1")
    assert cluster.environment()["PENSTOCK_DRAIN_SECONDS"] == "25", "no pod of the new version came before the schema"
    assert cluster.deployment()["status"]["readyReplicas"] == 2


def test_the_generation_grows_with_the_lanes_file_alone(cluster: Cluster) -> None:
    def lanes(seconds: int) -> str:
        return f"--set-string=lanes.toml=[defaults]\nage_max_seconds = {seconds}\n"

    def generation() -> int:
        return int(cluster.environment()["PENSTOCK_GENERATION"])

    cluster.install("default", lanes(60))
    assert generation() == 1
    template = cluster.deployment()["spec"]["template"]
    cluster.install("default", lanes(60))
    assert cluster.deployment()["spec"]["template"] == template, "an upgrade that changes nothing starts no pod anew"
    cluster.install("default", lanes(30))
    assert generation() == 3
    cluster.install("default", lanes(30), "--set=drainSeconds=30")
    assert generation() == 3
