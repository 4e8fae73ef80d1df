"""docs/kubernetes.md and the chart's examples: every command and every object of theirs."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
import yaml

from penstock.embedded.postgres import EmbeddedPostgres
from tests.deploy.command import run
from tests.deploy.control_plane import ControlPlane
from tests.deploy.image import ROOT
from tests.deploy.rendering import VALUES, helm, objects
from tests.support.bridge import Bridge
from tests.support.chart import CHART
from tests.support.command import penstock
from tests.support.request import chat
from tests.support.stack import execute

PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
EXAMPLES = CHART / "examples"
STRIMZI = "kafka.strimzi.io"
INSIDE = ("docker", "kubectl exec", "kubectl logs")
"""What needs a registry or a pod's inside: test_image.py builds the image, and runs these commands in it."""
KEDA = ("kubectl annotate",)
"""What is said to KEDA's objects, of which the page's values have none: test_operations.py runs it on some."""


def blocks(kind: str) -> list[str]:
    """The page's blocks of one kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def commands() -> Iterator[list[str]]:
    """The page's command lines, in their order."""
    for block in blocks("sh"):
        for line in block.splitlines():
            words = shlex.split(line)
            plain = [each for each in words if not each.startswith("-")]
            verb = plain[2] if plain[1] in ("penstock", "penstock-demo") else plain[1]
            if not f"{words[0]} {verb}".startswith((*INSIDE, *KEDA)):
                yield words


def stand_in_for_operators(plane: ControlPlane) -> None:
    """Say of the demonstration's servers what their operators, which do not run here, say when they are up."""
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Up",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    patch = json.dumps({"status": {"conditions": [ready]}})
    for kind, name in (("clusters.postgresql.cnpg.io", "postgres"), (f"kafkas.{STRIMZI}", "kafka")):
        command = ("patch", kind, name, "--subresource=status", "--type=merge", f"--patch={patch}")
        plane.kubectl(*command, "--namespace=penstock-demo")


@pytest.mark.timeout(1800)
def test_the_pages_commands_work_from_first_to_last(plane: ControlPlane, tmp_path: Path) -> None:
    (tmp_path / "helm").symlink_to(ROOT / "helm")
    [values] = [each for each in blocks("yaml") if each.startswith("# values.yaml")]
    (tmp_path / "values.yaml").write_text(values)
    ran = []
    for words in commands():
        if "condition=Ready" in words:
            stand_in_for_operators(plane)
        run(*words, environment=plane.environment(), folder=tmp_path)
        ran.append(words[0])
    assert ran.count("helm") >= 6
    assert ran.count("kubectl") >= 8


@pytest.mark.timeout(600)
async def test_the_two_roles_of_the_page_are_enough(bridge: Bridge, postgres: EmbeddedPostgres) -> None:
    [sql] = blocks("sql")
    name = urlsplit(bridge.dsn).path.removeprefix("/") + "_roles"
    *before, inside = [each for each in sql.split(";\n") if each.strip()]
    for statement in before:
        await execute(postgres, re.sub(r"DATABASE penstock\b", f"DATABASE {name}", statement))
    own = bridge.dsn.rpartition("/")[0] + f"/{name}"
    connection = await asyncpg.connect(own)
    await connection.execute(inside)
    await connection.close()
    try:
        address = urlsplit(own)
        dsns = {
            role: f"postgresql://{role}:{password}@{address.hostname}:{address.port}/{name}"
            for role, password in re.findall(r"ROLE (\w+) LOGIN PASSWORD '(.*?)'", sql)
        }
        refused = await penstock({"PENSTOCK_POSTGRES_DSN": dsns["penstock"]}, "migrate")
        assert "permission denied" in refused.err
        migrated = await penstock({"PENSTOCK_POSTGRES_DSN": dsns["penstock_owner"]}, "migrate")
        assert migrated.code == 0, migrated
        async with bridge.service(
            postgres_dsn=dsns["penstock"], janitor_payload_turn_seconds=0.5, deployment="roles"
        ) as service:
            await bridge.produce([chat(f"{number}") for number in range(20)])
            await bridge.results(20)
            await service.reached("penstock_stage_progress_timestamp_seconds", 1, stage="janitor")
            assert await service.metric("penstock_stage_failures_total") == 0, service.text()
    finally:
        await execute(postgres, f"drop database {name} with (force)")
        for role in ("penstock", "penstock_owner"):
            await execute(postgres, f"drop role {role}")


def test_the_pages_values_are_values_of_the_chart(tools: Path, tmp_path: Path) -> None:
    assert tools.is_dir()
    found = [each for each in map(yaml.safe_load, blocks("yaml")) if "apiVersion" not in each]
    assert len(found) >= 3
    base = yaml.safe_load(VALUES["default"].read_text())
    for number, each in enumerate(found):
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml.safe_dump(base | each))
        assert objects(helm("template", "penstock", CHART, f"--values={file}"))


def test_the_pages_tokens_are_those_of_the_values_that_are_installed() -> None:
    [shown] = [each for each in map(yaml.safe_load, blocks("yaml")) if "extraContainers" in each]
    installed = yaml.safe_load(VALUES["tokens"].read_text())
    for container in installed["extraContainers"]:
        del container["resources"]
    installed["kafka"]["bootstrapServers"] = shown["kafka"]["bootstrapServers"]
    assert shown == {name: installed[name] for name in shown}


def test_the_pages_secret_from_a_vault_is_the_example() -> None:
    [shown] = [each for each in map(yaml.safe_load, blocks("yaml")) if "apiVersion" in each]
    example = yaml.safe_load((EXAMPLES / "external-secret.yaml").read_text())
    del shown["metadata"]["namespace"]
    assert shown == example


@pytest.mark.timeout(600)
def test_the_examples_objects_are_taken_by_their_operators(plane: ControlPlane) -> None:
    for name in ("postgres.yaml", "external-secret.yaml"):
        plane.kubectl("apply", "--dry-run=server", "--server-side", "-f", EXAMPLES / name)


def test_the_demonstrations_parts_fit_together(tools: Path) -> None:
    assert tools.is_dir()
    kafka = {each["kind"]: each for each in objects((EXAMPLES / "kafka.yaml").read_text())}
    postgres = yaml.safe_load((EXAMPLES / "postgres.yaml").read_text())
    values = yaml.safe_load((EXAMPLES / "demo.yaml").read_text())
    cluster, database = kafka["Kafka"]["metadata"]["name"], postgres["metadata"]["name"]
    assert kafka["KafkaNodePool"]["metadata"]["labels"]["strimzi.io/cluster"] == cluster
    assert values["topics"]["strimzi"]["cluster"] == cluster
    [listener] = kafka["Kafka"]["spec"]["kafka"]["listeners"]
    assert values["kafka"]["bootstrapServers"] == [f"{cluster}-kafka-bootstrap:{listener['port']}"]
    assert values["postgres"]["host"] == f"{database}-rw"
    assert values["postgres"]["password"]["secretName"] == f"{database}-app"
    assert values["postgres"]["tls"]["ca"]["secretName"] == f"{database}-ca"
    rendered = objects(helm("template", "demo", CHART, "--values", EXAMPLES / "demo.yaml"))
    [container] = next(
        each["spec"]["template"]["spec"]["containers"]
        for each in rendered
        if each["kind"] == "Deployment" and each["metadata"]["name"] == "demo-penstock"
    )
    variables = {each["name"]: each.get("value") for each in container["env"]}
    assert variables["PENSTOCK_PROVIDER_BASE_URL"] == "http://demo-penstock-simulator:8090/v1"
    assert json.dumps(rendered).count(STRIMZI) == len([each for each in rendered if each["kind"] == "KafkaTopic"]) == 4
