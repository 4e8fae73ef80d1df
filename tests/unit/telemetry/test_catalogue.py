"""The catalogue of metrics against the code that counts."""

import ast
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

import penstock
from penstock.core.lane import ENDPOINTS
from tests.support.reference import catalogue

CATALOGUE = catalogue()
EFFECTS = {"labels", "inc", "set", "observe", "observe_many"}
Call = tuple[str, ast.Call, ast.FunctionDef | ast.AsyncFunctionDef]


def calls() -> Iterator[Call]:
    """Every call of a method of a metric: the metric's name, the call, and the function around it."""
    for path in Path(str(files(penstock))).rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for node in ast.walk(function):
                    match node:
                        case ast.Call(
                            func=ast.Attribute(
                                attr=effect, value=ast.Attribute(attr=name, value=ast.Name(id="metrics"))
                            )
                        ) if effect in EFFECTS:
                            yield name, node, function


CALLS = list(calls())


def arguments(label: str) -> list[tuple[str, ast.expr, ast.AST]]:
    """What the code gives for a label: the metric's name, the expression, and the function around it."""
    return [
        (name, call.args[CATALOGUE[name].labels.index(label)], function)
        for name, call, function in CALLS
        if label in CATALOGUE[name].labels and isinstance(call.func, ast.Attribute) and call.func.attr != "inc"
    ]


def test_every_metric_is_counted_somewhere() -> None:
    dead = set(CATALOGUE) - {name for name, _, _ in CALLS}
    assert not dead, f"nothing counts {sorted(dead)}"


def test_every_metric_that_the_code_counts_is_in_the_catalogue() -> None:
    assert {name for name, _, _ in CALLS} <= set(CATALOGUE)


def test_each_count_gives_a_value_for_each_label() -> None:
    for name, call, _ in CALLS:
        assert isinstance(call.func, ast.Attribute)
        if call.func.attr == "labels":
            assert len(call.args) == len(CATALOGUE[name].labels), ast.unparse(call)
        elif call.func.attr != "observe_many":
            assert not CATALOGUE[name].labels, ast.unparse(call)


@pytest.mark.parametrize("name", CATALOGUE)
def test_names_follow_the_conventions(name: str) -> None:
    metric = CATALOGUE[name]
    assert re.fullmatch(r"penstock_[a-z_]+", metric.name)
    assert metric.help.endswith(".")
    assert (metric.kind == "counter") == metric.name.endswith("_total")
    if metric.kind == "histogram":
        assert metric.name.endswith(("_seconds", "_ratio"))
    if "age" in metric.name.split("_"):
        assert metric.name.endswith("_seconds")


def from_lane_label(expression: ast.expr, function: ast.AST) -> bool:
    """Whether an expression is a lane's bounded name, or a variable `label` that holds one."""
    name = ast.unparse(expression)
    source = ast.unparse(function)
    return name.startswith("self.lane_label(") or (name == "label" and "lane_label(" in source)


def test_a_lane_is_labelled_by_its_configured_name_alone() -> None:
    for name, expression, function in arguments("lane"):
        assert from_lane_label(expression, function), f"{name}: {ast.unparse(expression)}"


def test_an_endpoint_is_that_of_a_lane() -> None:
    assert len(ENDPOINTS) < 10
    for name, expression, _ in arguments("endpoint"):
        assert re.fullmatch(r"(\w+\.)*key\.endpoint", ast.unparse(expression)), f"{name}: {ast.unparse(expression)}"


@pytest.mark.parametrize("label", ["topic", "account", "deployment"])
def test_labels_from_the_settings_are_given_as_they_stand_there(label: str) -> None:
    for name, expression, _ in arguments(label):
        assert re.fullmatch(rf"(\w+\.)*{label}", ast.unparse(expression)), f"{name}: {ast.unparse(expression)}"


@pytest.mark.parametrize("label", ["phase", "direction"])
def test_labels_of_a_fixed_set_are_constants_or_are_named_so_at_the_start(label: str) -> None:
    for name, expression, _ in arguments(label):
        fixed = isinstance(expression, ast.Constant) or ast.unparse(expression) == f"self.{label}"
        assert fixed, f"{name}: {ast.unparse(expression)}"


def test_histograms_are_labelled_by_what_has_few_values() -> None:
    histograms = [name for name, metric in CATALOGUE.items() if metric.kind == "histogram"]
    assert {label for name in histograms for label in CATALOGUE[name].labels} <= {"endpoint", "phase", "operation"}
