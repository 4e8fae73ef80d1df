"""Environment variables: which of them are settings, and which of the others are a slip of the pen."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from penstock.core.problems import nearest

PREFIX = "PENSTOCK_"
OTHER_VARIABLES = frozenset({"PENSTOCK_CACHE", "PENSTOCK_FAILPOINTS"})
"""Variables of other parts of the project: the cache of embedded servers, and failpoints."""
SERVICE_ADDRESS = re.compile(r"PENSTOCK_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
SERVICE_PORT = re.compile(r"PENSTOCK_(\w+_)?PORT")
PORT_VALUE = re.compile(r"(tcp|udp|sctp)://.*")
"""Kubernetes gives these to each pod of a namespace that has a Service called penstock, or penstock-NAME."""


def variable(path: tuple[str, ...]) -> str:
    """The environment variable of a setting."""
    return PREFIX + "_".join(path).upper() if path else "settings"


def setting_paths(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    """Every setting: its name, or its section and its name."""
    for name, each in model.model_fields.items():
        if isinstance(each.annotation, type) and issubclass(each.annotation, BaseModel):
            yield from ((name, *path) for path in setting_paths(each.annotation))
        else:
            yield (name,)


def setting_names(model: type[BaseModel]) -> Iterator[str]:
    """Every variable that the settings take."""
    return map(variable, setting_paths(model))


def read_values(model: type[BaseModel], environment: Mapping[str, str]) -> dict[str, Any]:
    """What the environment says of the settings: values by name, and by name within each section."""
    given = ours(environment)
    values: dict[str, Any] = {}
    for path in setting_paths(model):
        name = variable(path)
        if name in given and not from_kubernetes(name, given[name]):
            inner = values
            for section in path[:-1]:
                inner = inner.setdefault(section, {})
            inner[path[-1]] = given[name]
    return values


def unknown_variables(model: type[BaseModel], environment: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each variable that begins like ours and is none of ours."""
    known = {*setting_names(model), *OTHER_VARIABLES}
    for name, value in sorted(ours(environment).items()):
        if name in known or from_kubernetes(name, value):
            continue
        close = nearest(name.removeprefix(PREFIX), (each.removeprefix(PREFIX) for each in known))
        yield f"{name} is no setting; " + (f"did you mean {PREFIX}{close}?" if close else "remove it")


def ours(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that begin like ours; small letters are as good as capitals."""
    return {name.upper(): value for name, value in environment.items() if name.upper().startswith(PREFIX)}


def from_kubernetes(name: str, value: str) -> bool:
    """Whether Kubernetes sets the variable for a Service; its ports have values that no setting takes."""
    if SERVICE_ADDRESS.fullmatch(name):
        return True
    return SERVICE_PORT.fullmatch(name) is not None and PORT_VALUE.fullmatch(value) is not None
