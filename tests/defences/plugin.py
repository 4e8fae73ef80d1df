"""`pytest --defence-off NAME`: run the tests marked with a defence while it is switched off; they should fail.

A mark `@pytest.mark.defence("name", …)` says that a test misses these defences. Services are launched without the
defence, and so is what a test calls in its own process.
"""

import json
import re
from collections.abc import Generator

import pytest

from tests.defences.switches import DEFENCES
from tests.support.bridge import Bridge

NOTICED = "noticed"
"""The property of a test that failed by an assertion of its own: what it saw."""
BROKEN = "broken"
"""The property of a test whose services met an error of programming: a switch that no longer fits proves nothing."""
PROGRAMMING = re.compile(r"\b(?:Type|Attribute|Name|UnboundLocal|Import|Key|Index|Syntax)Error\b")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--defence-off", metavar="NAME", choices=sorted(DEFENCES), help="run what misses this defence")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests that are marked with the defence, in each of which it is to be missed."""
    name = config.getoption("--defence-off")
    marked = {item: {name for mark in item.iter_markers("defence") for name in mark.args} for item in items}
    if unknown := set().union(*marked.values()) - DEFENCES.keys():
        raise pytest.UsageError(f"no such defence: {', '.join(sorted(unknown))}")
    if name is not None:
        config.hook.pytest_deselected(items=[item for item in items if name not in marked[item]])
        items[:] = [item for item in items if name in marked[item]]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell failed assertions from errors of the harness."""
    if call.when == "call" and call.excinfo is not None and isinstance(call.excinfo.value, AssertionError):
        item.user_properties.append((NOTICED, summary(call.excinfo.value)))
        if error := programming_error(getattr(item, "funcargs", {}).get("bridge")):
            item.user_properties.append((BROKEN, error))
    return (yield)


def programming_error(bridge: Bridge | None) -> str | None:
    """The first error in the services' words that no scenario causes, only code that does not fit together."""
    for service in bridge.services if bridge else ():
        if found := PROGRAMMING.search(service.text()):
            return f"{found[0]} in {service.log.name}"
    return None


def summary(error: AssertionError) -> str:
    """An assertion in a few words: the checker's violations, or the first line of the message."""
    first = str(error).partition("\n")[0]
    try:
        violations = json.loads(first)["violations"]
    except ValueError:
        return first
    return ", ".join(f"{found['count']} {kind.replace('_', ' ')}" for kind, found in violations.items())


@pytest.fixture(autouse=True)
def defences_off(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The defences to switch off in services; in this process they are off by now."""
    name: str | None = request.config.getoption("--defence-off")
    if name is None:
        return ()
    DEFENCES[name].switch(monkeypatch)
    return (name,)
