"""Every I/O of the service passes a failpoint: shown from the source of the adapters, whoever adds one."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

import penstock
from penstock.telemetry.failpoint import NAMES

SOURCE = Path(penstock.__file__).parent
ADAPTERS = ("kafka", "postgres", "provider")
SPOOL = SOURCE / "spool.py"
STAGES = sorted((SOURCE / "stages").glob("*.py"))
CALLERS = [SOURCE / "app.py", SOURCE / "composition.py", *STAGES]
"""The service; what only the command line calls is an operator's, who sees it fail and calls again."""
EXEMPT = {
    "Database.close": "gives up connections; nobody waits for it, and the server ends what was open",
    "ProviderClient.close": "the same",
    "ProviderClients.close": "the same, of each account",
    "WebhookStore.note": "a webhook that is lost is sent again, and polling needs none",
    "opened": "Database.open, which has one, and Database.close",
    "Database.transaction": "what is done in it is behind the failpoint of the store's method that opens it",
}
WAITS = ("asyncio.timeout",)
"""What is awaited and is no I/O."""

DISK = {"mkdir", "open", "pread", "read", "read_bytes", "rmtree", "unlink", "write", "write_bytes"}
"""What files are asked for."""
NO_DISK = {"requeues.open", "self.read", "session.open", "spooled.lines.read"}
"""What has such a name in the stages and is no file's."""
DISK_EXEMPT = {
    "append_part": "a part of Submitter.build, in a thread",
    "Downloader.spooled": "takes files away when all is over; what is left goes with the process",
    "SlotSession.publication": "what it opens is read by spool.off_loop, which has one",
    "Submitter.upload": "takes a file away when all is over; what is left goes with the process",
}

Function = ast.AsyncFunctionDef


@dataclass(frozen=True)
class Found:
    """An async function of an adapter."""

    owner: str
    node: Function

    @property
    def name(self) -> str:
        return f"{self.owner}.{self.node.name}" if self.owner else self.node.name

    @property
    def failpoints(self) -> list[str]:
        """The failpoints that it is decorated with."""
        calls = [each for each in self.node.decorator_list if isinstance(each, ast.Call)]
        return [ast.literal_eval(each.args[0]) for each in calls if ast.unparse(each.func) == "failpoint"]

    @property
    def inside(self) -> bool:
        """Whether it works in the transaction of whoever calls it."""
        takes = [ast.unparse(each.annotation) for each in self.node.args.args if each.annotation]
        return self.owner == "Connection" or "Connection" in takes


def functions(source: str) -> Iterator[Found]:
    """The async functions of a module and of its classes."""
    for node in ast.parse(source).body:
        if isinstance(node, Function):
            yield Found("", node)
        elif isinstance(node, ast.ClassDef):
            yield from (Found(node.name, each) for each in node.body if isinstance(each, Function))


def awaited(node: Function) -> Iterator[ast.expr]:
    """Whatever a function waits for."""
    for each in ast.walk(node):
        if isinstance(each, ast.Await):
            yield each.value
        elif isinstance(each, ast.AsyncWith):
            yield from (item.context_expr for item in each.items)
        elif isinstance(each, ast.AsyncFor) or (isinstance(each, ast.comprehension) and each.is_async):
            yield each.iter


def is_behind(found: Found, known: Mapping[str, Found]) -> bool:
    """Whether a function does its I/O behind a failpoint: its own, or those of all that it waits for."""
    if found.failpoints or found.inside:
        return True
    for each in awaited(found.node):
        called = ast.unparse(each.func) if isinstance(each, ast.Call) else ""
        if called in WAITS:
            continue
        callee = known.get(re.sub(r"^self\.(?=\w+$)", f"{found.owner}.", called))
        if callee is None or callee.node is found.node or not is_behind(callee, known):
            return False
    return True


def holes(modules: Iterable[str], callers: str) -> list[str]:
    """The functions of adapters that the service can call and that do an I/O outside of any failpoint.

    Args:
        modules: the adapters' sources.
        callers: the service's, as one text. A method counts as called where it and its class are named there.
    """
    known = {each.name: each for source in modules for each in functions(source)}
    nodes = list(ast.walk(ast.parse(callers)))
    named = {"", *(each.id for each in nodes if isinstance(each, ast.Name))}
    used = {"__aenter__", *named, *(each.attr for each in nodes if isinstance(each, ast.Attribute))}
    called = [
        each for each in known.values() if each.node.name in (used if each.owner else named) and each.owner in named
    ]
    return sorted(each.name for each in called if each.name not in EXEMPT and not is_behind(each, known))


def disk_holes(source: str) -> Iterator[str]:
    """The functions of a stage that ask a file for something outside of any failpoint."""
    module = ast.parse(source)
    owners: list[tuple[str, ast.Module | ast.ClassDef]] = [("", module)]
    owners += [(f"{each.name}.", each) for each in module.body if isinstance(each, ast.ClassDef)]
    for owner, within in owners:
        for node in within.body:
            if not isinstance(node, ast.FunctionDef | Function):
                continue
            reads = [
                each for each in ast.walk(node) if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Load)
            ]
            asks = any(each.attr in DISK and ast.unparse(each) not in NO_DISK for each in reads)
            if asks and not any(ast.unparse(each).startswith("failpoint(") for each in node.decorator_list):
                yield owner + node.name


def adapters() -> list[Path]:
    """Every module of the adapters."""
    return [path for package in ADAPTERS for path in sorted((SOURCE / package).glob("*.py"))]


def test_every_io_of_the_service_passes_a_failpoint() -> None:
    callers = "\n".join(path.read_text() for path in CALLERS)
    assert not holes((path.read_text() for path in adapters()), callers)


def test_the_disk_is_used_behind_failpoints_but_where_it_is_said_why_not() -> None:
    found = [each for path in STAGES for each in disk_holes(path.read_text())]
    assert sorted(found) == sorted(DISK_EXEMPT)


def test_a_failpoint_has_one_place_and_its_list_comes_from_the_code() -> None:
    places = [*adapters(), *STAGES, SPOOL]
    for path in places:
        import_module(".".join(("penstock", *path.relative_to(SOURCE).with_suffix("").parts)))
    written = [name for path in places for each in functions(path.read_text()) for name in each.failpoints]
    assert sorted(written) == sorted(NAMES)


def test_a_store_has_one_transaction_to_a_failpoint() -> None:
    """Between two there would be a place where nothing strikes."""
    for path in sorted((SOURCE / "postgres").glob("*.py")):
        for each in functions(path.read_text()):
            if each.failpoints:
                opened = transactions(each.node)
                loops = [node for node in ast.walk(each.node) if isinstance(node, ast.For | ast.While)]
                assert len(opened) <= 1, each.name
                assert not any(transactions(loop) for loop in loops), each.name


def transactions(node: ast.AST) -> list[str]:
    """Where code opens a transaction."""
    texts = [ast.unparse(each) for each in ast.walk(node) if isinstance(each, ast.Attribute)]
    return [each for each in texts if each.endswith(("database.transaction", "database.fetch", "pool.acquire"))]


def test_stages_reach_brokers_database_and_provider_by_the_adapters_alone() -> None:
    for path in CALLERS:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = (node.module if isinstance(node, ast.ImportFrom) else ",".join(names)) or ""
            if module.partition(".")[0] in ("aiokafka", "asyncpg", "openai", "httpx2"):
                assert module == "aiokafka.errors" or names == ["TopicPartition"], f"{path.name} imports {module}"


SAMPLE = """
class Store:
    @failpoint("store.read")
    async def read(self):
        return await self.database.fetch("read")

    async def read_twice(self):
        return [await self.read(), await self.read()]

    async def {name}(self):
        {act}

async def inside(connection: Connection):
    await connection.execute("write")
"""


@pytest.mark.parametrize(
    ("act", "found"),
    [
        ("await self.database.fetch('write')", ["Store.write"]),
        ("async with self.database.transaction() as connection: pass", ["Store.write"]),
        ("return [each async for each in self.reader]", ["Store.write"]),
        ("await self.write()", ["Store.write"]),
        ("await self.read_twice(); await inside(1)", []),
    ],
)
def test_an_io_without_a_failpoint_is_found(act: str, found: list[str]) -> None:
    sample = SAMPLE.format(name="write", act=act)
    assert holes([sample], "Store().write()") == found
    assert holes([sample], "Store().read()") == []
