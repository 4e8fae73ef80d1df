"""What operators do, on a real API server: there are always enough replicas.

Nodes are simulated, so that nothing is said of what replicas do meanwhile: tests/integration and tests/soak show that.
"""

import json
import shlex
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.command import Failed
from tests.deploy.test_install import Cluster, eventually
from tests.deploy.test_install import cluster as cluster  # noqa: PLC0414 - a fixture
from tests.deploy.test_page import PAGE

pytestmark = pytest.mark.timeout(3600)

PAUSED = "autoscaling.keda.sh/paused-replicas"
RESTORE = "--set=restore.enabled=true"
SELECTOR = "--selector=app.kubernetes.io/component=service"


class Watch:
    """How many replicas were ready and not on their way out, after each event of the API server.

    Args:
        file: what `kubectl get --watch` wrote.
        begun_with: the number of replicas at its start, which come as events too.
    """

    def __init__(self, file: Path, begun_with: int) -> None:
        decoder, text, at = json.JSONDecoder(), file.read_text(), 0
        states: dict[str, bool] = {}
        counts = []
        while text[at:].strip():
            at += len(text[at:]) - len(text[at:].lstrip())
            event, at = decoder.raw_decode(text, at)
            name = event["object"]["metadata"]["name"]
            states[name] = event["type"] != "DELETED" and is_ready(event["object"])
            counts.append(sum(states.values()))
        self.counts = counts[begun_with - 1 :]


def is_ready(pod: Any) -> bool:
    """Whether a pod is at work."""
    conditions = pod["status"].get("conditions", [])
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


@contextmanager
def watched(cluster: Cluster, folder: Path) -> Iterator[list[int]]:
    """Watch during the block; afterwards the list has the counts."""
    file, counts, begun_with = folder / "events", [0], len(cluster.pods())
    command = cluster.plane.kubectl_command("get", "pods", SELECTOR, f"--namespace={cluster.namespace}")
    command += ["--watch", "--output-watch-events", "--output=json"]
    with file.open("wb") as out:
        process = subprocess.Popen([str(each) for each in command], stdout=out)
        try:
            eventually(lambda: file.read_text().count('"ADDED"') >= begun_with)
            yield counts
        finally:
            process.terminate()
            process.wait()
    counts[:] = Watch(file, begun_with).counts


def ready(cluster: Cluster, count: int) -> bool:
    """Whether there are so many replicas, all ready."""
    status = cluster.deployment()["status"]
    return (status.get("readyReplicas"), status.get("replicas")) == (count, count)


def names(cluster: Cluster) -> set[str]:
    """The names of the pods."""
    return {each["metadata"]["name"] for each in cluster.pods()}


def page_lines(text: str) -> list[list[str]]:
    """What kubectl is given on docs/kubernetes.md in the lines that have a text; the namespace is the test's own."""
    found = [shlex.split(line) for line in PAGE.splitlines() if line.startswith("kubectl ") and text in line]
    assert found
    return [words[words.index("penstock") + 1 :] for words in found]


def send_away(cluster: Cluster) -> None:
    """Scale to none as the page says, and wait until no replica is left."""
    for each in (*page_lines("--replicas 0"), *page_lines("wait pod")):
        cluster.kubectl(*each)
    assert cluster.get("pods", "--selector=penstock/replica=true")["items"] == []


def test_an_upgrade_and_a_rollback_never_have_fewer_replicas(cluster: Cluster, tmp_path: Path) -> None:
    cluster.install("default", "--set=image.tag=0.1.0")
    before = names(cluster)
    with watched(cluster, tmp_path) as counts:
        cluster.install("default")
        eventually(lambda: before.isdisjoint(names(cluster)) and ready(cluster, 2))
        between = names(cluster)
        cluster.helm("rollback", "penstock", "1", "--wait", "--timeout=120s")
        eventually(lambda: between.isdisjoint(names(cluster)) and ready(cluster, 2))
    assert len(counts) > 10
    assert set(counts) == {2, 3}, "a new replica is there before an old one goes"


def test_a_restored_database_is_taken_over_after_all_replicas_went_and_before_any_comes(cluster: Cluster) -> None:
    cluster.install("default")
    send_away(cluster)
    cluster.install("default", RESTORE)
    assert ready(cluster, 2)
    job = cluster.get("job", "penstock-restore")
    assert job["status"]["succeeded"] == 1
    assert min(each["metadata"]["creationTimestamp"] for each in cluster.pods()) >= job["status"]["completionTime"]
    cluster.install("default")
    assert cluster.get("job", "penstock-restore")["metadata"]["uid"] == job["metadata"]["uid"], "it is not run again"


def test_no_replica_comes_when_a_restored_database_was_not_taken_over(cluster: Cluster) -> None:
    cluster.install("default")
    send_away(cluster)
    cluster.kubectl("create", "quota", "none", "--hard=pods=0")  # so that the Job gets no pod, and never ends
    with pytest.raises(Failed):
        cluster.install("default", RESTORE, "--set=restore.deadlineSeconds=10", "--set=migrations.enabled=false")
    assert cluster.deployment()["spec"]["replicas"] == 0


def test_a_pause_of_keda_lasts_until_the_restored_database_is_taken_over(cluster: Cluster) -> None:
    cluster.install("keda")
    for each in page_lines("paused-replicas=0"):
        cluster.kubectl(*each)
    send_away(cluster)
    cluster.install("keda", RESTORE)
    assert [each["spec"]["replicas"] for each in cluster.get("deployment")["items"]] == [0, 0, 0]
    scaled = cluster.get("scaledobject")["items"]
    assert [each["metadata"]["annotations"].get(PAUSED) for each in scaled] == ["0", "0", "0"]
    for each in page_lines("paused-replicas-"):
        cluster.kubectl(*each)
    assert not any(PAUSED in each["metadata"].get("annotations", {}) for each in cluster.get("scaledobject")["items"])


def test_it_is_scaled_from_one_to_five_and_back_over_all_nodes(cluster: Cluster, tmp_path: Path) -> None:
    cluster.install("default", "--set=replicas=1")
    with watched(cluster, tmp_path) as counts:
        cluster.kubectl("scale", "deployment/penstock", "--replicas=5")
        eventually(lambda: ready(cluster, 5))
        assert len({each["spec"]["nodeName"] for each in cluster.pods()}) == 3
        cluster.kubectl("scale", "deployment/penstock", "--replicas=1")
        eventually(lambda: ready(cluster, 1))
    assert (min(counts), max(counts)) == (1, 5)


@pytest.mark.parametrize(("budget", "fewest"), [(True, 3), (False, 2)])
def test_a_drain_takes_one_replica_at_a_time_for_the_budgets_sake(
    cluster: Cluster, tmp_path: Path, budget: bool, fewest: int
) -> None:
    cluster.install("default", "--set=replicas=4", f"--set=podDisruptionBudget.enabled={str(budget).lower()}")
    [(node, count)] = Counter(each["spec"]["nodeName"] for each in cluster.pods()).most_common(1)
    assert count == 2
    nodes = [each["metadata"]["name"] for each in cluster.plane.get("nodes")["items"]]
    drain = ("drain", node, "--ignore-daemonsets", "--delete-emptydir-data")
    try:
        with watched(cluster, tmp_path) as counts:
            cluster.plane.kubectl("cordon", *nodes)  # so that nothing takes the place of what is evicted
            if budget:
                with pytest.raises(Failed, match="disruption budget"):
                    cluster.plane.kubectl(*drain, "--timeout=8s")
                cluster.plane.kubectl("uncordon", *(each for each in nodes if each != node))
            cluster.plane.kubectl(*drain, "--timeout=120s")
            cluster.plane.kubectl("uncordon", *(each for each in nodes if each != node))
            eventually(lambda: ready(cluster, 4))
        assert node not in {each["spec"]["nodeName"] for each in cluster.pods()}
        assert min(counts) == fewest
    finally:
        cluster.plane.kubectl("uncordon", *nodes)
