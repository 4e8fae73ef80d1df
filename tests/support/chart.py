"""The chart's schema and the table of its README, from the comments of its values: ``make docs`` writes them.

Above each value stands `# -- description`, and where the default does not say enough `# @schema {…}`, members of its
JSON Schema. Objects take no other members than those they have, unless `additionalProperties` is said.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, SecretStr

from penstock.settings import Settings
from penstock.variables import variable
from tests.support.reference import table

CHART = Path(__file__).parents[2] / "helm" / "penstock"
DESCRIPTION = "# -- "
SCHEMA = "# @schema "
SETTINGS = "settings"
"""Instead of a schema: that of the settings which the chart's templates do not set."""
RESOURCES = "resources"
"""Instead of a schema: that of requests and limits."""
QUANTITIES = {"type": "object", "additionalProperties": {"type": ["string", "number"]}}
MARKS = ("<!-- values: written from values.yaml by `make docs` -->", "<!-- end of values -->")
KINDS = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


@dataclass(slots=True)
class Value:
    """One value of values.yaml: where it stands, what it is by default, and what its comment says."""

    path: tuple[str, ...]
    default: Any
    description: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    members: list["Value"] = field(default_factory=list)

    @property
    def closed(self) -> bool:
        """Whether it is a group of values that are described one by one."""
        return bool(self.members) and "additionalProperties" not in self.extra

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        found: dict[str, Any] = {"type": KINDS[type(self.default)]} if self.default is not None else {}
        if self.description:
            found["description"] = self.description
        if self.closed or (found.get("type") == "object" and "additionalProperties" not in self.extra):
            found["additionalProperties"] = False
            found["properties"] = {each.path[-1]: each.schema() for each in self.members}
        return found | self.extra


def read_values() -> list[Value]:
    """Every value at the top of values.yaml, with those below it."""
    text = (CHART / "values.yaml").read_text()
    node = yaml.compose(text, yaml.SafeLoader)
    assert isinstance(node, yaml.MappingNode)
    return list(members(node, yaml.safe_load(text), text.splitlines(), ()))


def members(
    node: yaml.MappingNode, defaults: dict[str, Any], lines: list[str], path: tuple[str, ...]
) -> Iterator[Value]:
    """The values of a mapping, each with the comment that stands right above it."""
    for key, value in node.value:
        here, default = (*path, key.value), defaults[key.value]
        description, extra = comment(lines, key.start_mark.line)
        below = list(members(value, default, lines, here)) if isinstance(value, yaml.MappingNode) else []
        yield Value(here, default, description, extra, below)


def comment(lines: list[str], line: int) -> tuple[str, dict[str, Any]]:
    """What the comment above a line says: description and members of the schema."""
    first = line
    while lines[first - 1].lstrip().startswith("#"):
        first -= 1
    description, extra = "", ""
    for each in (text.strip() for text in lines[first:line]):
        if each.startswith(SCHEMA):
            extra = each.removeprefix(SCHEMA)
        elif each.startswith(DESCRIPTION):
            description = each.removeprefix(DESCRIPTION)
        elif description:
            description += " " + each.removeprefix("#").strip()
    if extra == SETTINGS:
        return description, settings_schema()
    if extra == RESOURCES:
        return description, {
            "additionalProperties": False,
            "properties": {"requests": QUANTITIES, "limits": QUANTITIES},
        }
    return description, json.loads(extra) if extra else {}


def template_variables() -> set[str]:
    """Every variable that the templates set by name."""
    templates = [*CHART.glob("templates/**/*.yaml"), *CHART.glob("templates/**/*.tpl")]
    return {name for each in templates for name in re.findall(r"\bPENSTOCK_[A-Z_]+[A-Z]\b", each.read_text())}


def settings_schema() -> dict[str, Any]:
    """The settings that the templates leave to `settings`, by section, with the bounds of the service."""
    taken = template_variables() - {"PENSTOCK_PUBLISHER_SLOTS"}  # that one is handed on to the Job that makes topics
    found: dict[str, Any] = {}
    for name, setting in Settings.model_fields.items():
        if isinstance(setting.default, BaseModel):
            section = type(setting.default)
            below = free(section, (name,), taken)
            if below:
                found[name] = {"type": "object", "additionalProperties": False, "properties": below}
    return {"properties": free(Settings, (), taken) | found, "additionalProperties": False}


def free(model: type[BaseModel], path: tuple[str, ...], taken: set[str]) -> dict[str, Any]:
    """The schema of each setting of a section that is none of the chart's, no secret and no path."""
    schemas = model.model_json_schema()["properties"]
    found = {}
    for name, setting in model.model_fields.items():
        kinds = str(setting.annotation)
        if variable((*path, name)) in taken or isinstance(setting.default, BaseModel):
            continue
        if SecretStr.__name__ in kinds or "Path" in kinds:
            continue
        schema = dict(schemas[name])
        for noise in ("title", "default"):
            schema.pop(noise, None)
        found[name] = schema
    return found


def values_schema() -> str:
    """values.schema.json."""
    values = read_values()
    below: dict[str, Any] = {each.path[-1]: each.schema() for each in values}
    below["global"] = {"type": "object", "description": "What a chart that this one is part of shares; not used."}
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart penstock",
        "type": "object",
        "additionalProperties": False,
        "properties": below,
    }
    return json.dumps(schema, indent=2) + "\n"


def leaves(values: list[Value]) -> Iterator[Value]:
    """The values that are set themselves, in their order."""
    for each in values:
        if each.closed:
            yield from leaves(each.members)
        else:
            yield each


def values_table() -> str:
    """The table of README.md."""
    rows = ((f"`{'.'.join(e.path)}`", f"`{json.dumps(e.default)}`", e.description) for e in leaves(read_values()))
    return "\n".join(table(("value", "default", "meaning"), rows))


def readme() -> str:
    """README.md, with the table as the values are now."""
    text = (CHART / "README.md").read_text()
    before, _, rest = text.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return f"{before}{MARKS[0]}\n\n{values_table()}\n\n{MARKS[1]}{after}"


FILES = {"values.schema.json": values_schema, "README.md": readme}
COPIES = {
    "rules.yaml": CHART.parents[1] / "deploy" / "prometheus" / "rules.yaml",
    "dashboard.json": CHART.parents[1] / "deploy" / "grafana" / "penstock.json",
}
"""Files of the chart that are copies, since a chart holds no files from outside."""


def write() -> None:
    """Write all that is made from elsewhere."""
    for name, made in FILES.items():
        (CHART / name).write_text(made())
    for name, source in COPIES.items():
        (CHART / "files" / name).write_bytes(source.read_bytes())


if __name__ == "__main__":
    write()
