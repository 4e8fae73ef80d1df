"""Schemas for kubeconform, in FOLDER/schemas: of Kubernetes' own objects and of those that FOLDER/crds define.

Runs where kubernetes-validate is installed: ``python schemas.py FOLDER``.
"""

import json
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

VERSION = "v1.36.0-local-strict"
yaml.SafeLoader.add_constructor("tag:yaml.org,2002:value", lambda _, node: node.value)  # a lone `=` in CRDs


def make_local(node: Any) -> None:
    """References that kubeconform can follow from file to file."""
    if isinstance(node, dict):
        node.pop("$id", None)
        if isinstance(node.get("$ref"), str):
            node["$ref"] = node["$ref"].replace("/api/_definitions.json#", "_definitions.json#")
    for each in below(node):
        make_local(each)


def make_strict(node: Any) -> None:
    """No field that a CRD does not name, as the API server has it."""
    if isinstance(node, dict):
        kept = node.get("x-kubernetes-preserve-unknown-fields")
        if node.get("type") == "object" and "properties" in node and not kept:
            node.setdefault("additionalProperties", False)
        if node.pop("x-kubernetes-int-or-string", None):
            node.pop("type", None)
            node.setdefault("anyOf", [{"type": "integer"}, {"type": "string"}])
    for each in below(node):
        make_strict(each)


def below(node: Any) -> list[Any]:
    """The members of an object or array."""
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []


def write_own(target: Path) -> None:
    """Kubernetes' own."""
    [shipped] = Path(kubernetes_validate.__file__).parent.rglob(VERSION)
    (target / VERSION).mkdir(parents=True, exist_ok=True)
    for file in shipped.glob("*.json"):
        schema = json.loads(file.read_text())
        make_local(schema)
        (target / VERSION / file.name).write_text(json.dumps(schema))


def write_defined(target: Path, file: Path) -> None:
    """Those of one file of CRDs."""
    for crd in yaml.safe_load_all(file.read_text()):
        if not crd or crd.get("kind") != "CustomResourceDefinition":
            continue
        group = target / crd["spec"]["group"]
        group.mkdir(exist_ok=True)
        for version in crd["spec"]["versions"]:
            schema = version["schema"]["openAPIV3Schema"]
            make_strict(schema)
            own = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
            schema["properties"] |= own
            name = f"{crd['spec']['names']['kind'].lower()}_{version['name']}.json"
            (group / name).write_text(json.dumps(schema))


def main(folder: Path) -> None:
    """Write all of them, once."""
    target = folder / "schemas"
    if not (target / VERSION).exists():
        write_own(target)
    for file in sorted((folder / "crds").glob("*.yaml")):
        write_defined(target, file)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
