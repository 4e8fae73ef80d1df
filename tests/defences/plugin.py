"""`pytest --defence-off NAME`: run the tests marked with a defence while it is switched off; they should fail.

A mark `@pytest.mark.defence("name", …)` says that a test misses these defences. Services are launched without the
defence, and so is what a test calls in its own process. Given several times, a test runs once for each of them that it
is marked with.
"""

import json
import re
from collections.abc import Generator, Iterator

import pytest

import tests.support.crash
from tests.defences.switches import DEFENCES
from tests.support.bridge import Bridge

DEFENCE = "defence"
"""The property of a test that names the defence which was off."""
NOTICED = "noticed"
"""The property of a test that failed by an assertion of its own: what it saw."""
BROKEN = "broken"
"""The property of a test whose services met an error of programming: a switch that no longer fits proves nothing."""
PROGRAMMING = re.compile(r"\b(?:Type|Attribute|Name|UnboundLocal|Import|Key|Index|Syntax)Error\b")
FIXTURE = "defences_off"
PATIENCE_SECONDS = 15.0
"""Without its defence a test often waits for what never comes."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--defence-off",
        metavar="NAME",
        action="append",
        default=[],
        choices=sorted(DEFENCES),
        help="run what misses this defence",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A marked test runs for each chosen defence that it misses."""
    chosen = metafunc.config.getoption("--defence-off")
    marked = {name for mark in metafunc.definition.iter_markers("defence") for name in mark.args}
    if unknown := marked - DEFENCES.keys():
        raise pytest.UsageError(f"no such defence: {', '.join(sorted(unknown))}")
    if names := [name for name in chosen if name in marked]:
        metafunc.parametrize(FIXTURE, names, indirect=True, scope="module")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """When a defence is off, leave the tests that miss it."""
    if not config.getoption("--defence-off"):
        return
    for item in items:
        if name := off(item):
            item.user_properties.append((DEFENCE, name))
    config.hook.pytest_deselected(items=[item for item in items if not off(item)])
    items[:] = [item for item in items if off(item)]


def off(item: pytest.Item) -> str | None:
    """The defence that is off for a test."""
    called = getattr(item, "callspec", None)
    return called.params.get(FIXTURE) if called else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell failed assertions from errors of the harness."""
    error = call.excinfo.value if call.excinfo is not None else None
    if call.when == "call" and (isinstance(error, AssertionError) or str(error).startswith("DID NOT RAISE")):
        item.user_properties.append((NOTICED, summary(error)))
        if broken := programming_error(item):
            item.user_properties.append((BROKEN, broken))
    return (yield)


def programming_error(item: pytest.Item) -> str | None:
    """The first error in the services' words that no scenario causes, only code that does not fit together."""
    for given in getattr(item, "funcargs", {}).values():
        bridge = getattr(given, "bridge", given)  # a test has one of its own, or shares that of a conversation
        for service in bridge.services if isinstance(bridge, Bridge) else ():
            if found := PROGRAMMING.search(service.text()):
                return f"{found[0]} in {service.log.name}"
    return None


def summary(error: BaseException | None) -> str:
    """An assertion in a few words: the checker's violations, or the first line of the message."""
    first = str(error).partition("\n")[0]
    try:
        violations = json.loads(first)["violations"]
    except ValueError:
        return first.removeprefix("assert ")
    return ", ".join(f"{found['count']} {kind.replace('_', ' ')}" for kind, found in violations.items())


@pytest.fixture(scope="module", autouse=True)
def defences_off(request: pytest.FixtureRequest) -> Iterator[tuple[str, ...]]:
    """The defences to switch off in services; in this process they are off by now."""
    name: str | None = getattr(request, "param", None)
    with pytest.MonkeyPatch.context() as patch:
        if name is not None:
            patch.setattr(tests.support.crash, "PATIENCE_SECONDS", PATIENCE_SECONDS)
            DEFENCES[name].switch(patch)
        yield (name,) if name else ()
