"""Every command and option that a page, a runbook, the chart or a message names is one of the command line."""

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.core import TyperGroup

from batchsim.cli import app as batchsim
from penstock.cli.app import app as penstock

ROOT = Path(__file__).parents[3]
PROGRAMS = {"penstock": typer.main.get_command(penstock), "batchsim": typer.main.get_command(batchsim)}
SPAN = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"(?:^|[|;&(]\s*|--\s+|\$\s+)((?:penstock|batchsim)(?: .*)?)$", re.MULTILINE)
"""In a shell: at the start of a line, behind a pipe, or behind the `--` of kubectl."""
SENTENCE = re.compile(r"(?<![-/.\w])(?<!namespace )(?<!helm )(?<!called )(penstock [a-z].*)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
ENDS = frozenset({"|", ";", "&&", ">", "#", "||", "…"})
OTHERS = frozenset(
    {
        *("--atomic", "--timeout"),  # helm
        *("--add", "--add-config", "--allow-principal", "--alter", "--bootstrap-server"),  # Kafka's own tools
        *("--operation", "--resource-pattern-type"),
    }
)
"""Options of other programs that stand alone in a text."""


def markdown() -> list[Path]:
    """Every page."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    return [*pages, *(ROOT / "deploy").rglob("*.md"), *(ROOT / "helm").rglob("*.md"), *(ROOT / "service").rglob("*.md")]


def plain() -> list[Path]:
    """Every other file of the chart and of the deployment that has sentences."""
    found = [each for kind in ("yaml", "tpl", "txt") for each in (ROOT / "helm").rglob(f"*.{kind}")]
    return [*found, *(ROOT / "deploy").rglob("*.yaml"), *(ROOT / "deploy").rglob("*.json")]


def sources() -> list[Path]:
    """The code."""
    return sorted((ROOT / "service").rglob("*.py"))


@cache
def strings(file: Path) -> tuple[str, ...]:
    """Every text in a module, docstrings too."""
    nodes = ast.walk(ast.parse(file.read_text()))
    return tuple(each.value for each in nodes if isinstance(each, ast.Constant) and isinstance(each.value, str))


def invocations(file: Path) -> Iterator[str]:
    """Whatever a file says that begins with one of our programs."""
    if file.suffix == ".py":
        for text in strings(file):
            yield from SENTENCE.findall(text)
        return
    text = file.read_text()
    if file.suffix == ".md":
        for block in FENCE.findall(text):
            yield from COMMAND.findall(block.replace("\\\n", " "))
        text = FENCE.sub("", text)
        yield from (span for span in SPAN.findall(text) if span.split()[0] in PROGRAMS)
    else:
        yield from SENTENCE.findall(text)


def wrong(words: str) -> str | None:
    """What there is not in an invocation."""
    try:
        tokens = shlex.split(words.strip("`"), comments=True)
    except ValueError:  # a quotation mark of the sentence around it
        tokens = words.strip("`").split()
    command = PROGRAMS[tokens.pop(0)]
    while isinstance(command, TyperGroup) and tokens and re.fullmatch(r"[a-z][a-z-]*\W*", tokens[0]):
        name = re.sub(r"\W+$", "", tokens.pop(0))
        if name not in command.list_commands(typer.Context(command)):
            return f"no command {name}"
        command = below(command, name)
    known = {"--help", *(name for each in command.params for name in (*each.opts, *each.secondary_opts))}
    for token in tokens:
        if token in ENDS:
            break
        name = re.sub(r"[^\w-]+$", "", token.partition("=")[0])
        if OPTION.fullmatch(name) and name not in known:
            return f"no option {name}"
    return None


def below(group: TyperGroup, name: str) -> Any:
    """A command of a group."""
    return group.get_command(typer.Context(group), name)


def options() -> set[str]:
    """Every option of both programs."""

    def of(command: Any) -> Iterator[str]:
        for each in command.params:
            yield from (*each.opts, *each.secondary_opts)
        if isinstance(command, TyperGroup):
            for name in command.list_commands(typer.Context(command)):
                yield from of(below(command, name))

    return {"--help", *(name for each in PROGRAMS.values() for name in of(each))}


@pytest.mark.parametrize("files", [markdown, plain, sources])
def test_every_command_that_is_named_is_there(files: object) -> None:
    assert callable(files)
    named = [(file, words) for file in files() for words in invocations(file)]
    assert len(named) > 5
    mistakes = [f"{file.relative_to(ROOT)}: {words}: {fault}" for file, words in named if (fault := wrong(words))]
    assert mistakes == []


def test_every_option_that_is_named_alone_is_there() -> None:
    spans = [(file, span) for file in markdown() for span in SPAN.findall(FENCE.sub("", file.read_text()))]
    named = [(file, name) for file, span in spans if span.startswith("--") for name in OPTION.findall(span)]
    service = ROOT / "service" / "penstock"
    named += [
        (file, name)
        for file in sources()
        if file.is_relative_to(service) and not file.is_relative_to(service / "embedded")
        for text in strings(file)
        for name in OPTION.findall(text)
    ]
    known = options() | OTHERS
    assert len(named) > 10
    assert [f"{file.relative_to(ROOT)}: {name}" for file, name in named if name not in known] == []


def test_every_command_that_compose_runs_is_there() -> None:
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"].values()
    ours = [each["command"] for each in services if each["image"] == "penstock:dev" and "command" in each]
    assert len(ours) > 1
    assert [words for words in ours if wrong(shlex.join(["penstock", *words]))] == []


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("penstock resume restored --yes", None),
        ("penstock check --only kafka --create-topics", None),
        ("penstock resume nothing", "no command nothing"),
        ("penstock cancle 4c1da5a5", "no command cancle"),
        ("penstock cancel ID --agian", "no option --agian"),
        ("penstock status | jq --raw-output .halts", None),
    ],
)
def test_a_command_that_is_not_there_is_found(words: str, fault: str | None) -> None:
    assert wrong(words) == fault
