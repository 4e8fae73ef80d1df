"""The chart rendered with each file of values: ``python -m tests.deploy.rendering`` writes golden renderings anew."""

from pathlib import Path
from typing import Any

import yaml

from tests.deploy.command import run
from tests.deploy.tools import folder
from tests.support.chart import CHART

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
VALUES = {each.stem: each for each in sorted((HERE / "values").glob("*.yaml"))}
RELEASE, NAMESPACE = "penstock", "work"


def helm(*arguments: object) -> str:
    """Run helm, away from any cluster."""
    return run(folder() / "bin" / "helm", *arguments, environment={"KUBECONFIG": "/dev/null"})


def render(name: str, *options: object) -> str:
    """What an installation with a file of values would send."""
    return helm("template", RELEASE, CHART, f"--namespace={NAMESPACE}", f"--values={VALUES[name]}", *options)


def objects(text: str) -> list[dict[str, Any]]:
    """The objects of a rendering."""
    return [each for each in yaml.safe_load_all(text) if each]


def write() -> None:
    """Write the golden rendering of each file of values."""
    GOLDEN.mkdir(exist_ok=True)
    for name in VALUES:
        (GOLDEN / f"{name}.yaml").write_text(render(name))


if __name__ == "__main__":
    write()
