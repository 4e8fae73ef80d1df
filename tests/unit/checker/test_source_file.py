import ast
from pathlib import Path

import pytest

import tests.checker
from tests.checker import source_file
from tests.checker.source_file import canaries_in, executions, seen_ids


def test_executions_are_read_from_the_journal(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    journal.write_text(
        '{"event":"batch.created","batch_id":"b","time":1.5,"endpoint":"/v1/responses","metadata":null}\n'
        '{"event":"request.executed","url":"/v1/responses","body_sha256":"aa","status_code":200,"model":"m"}\n'
        '{"event":"request.exec'
    )
    assert list(executions(journal)) == [("/v1/responses", "aa", 200)]


def test_what_a_reader_saw_is_read_line_by_line(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    seen.write_text('"a/b/0/1"\n"a/b/0/2"\n"a/b')
    assert list(seen_ids(seen)) == ["a/b/0/1", "a/b/0/2"]


def test_a_canary_is_found_also_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_file, "BLOCK_BYTES", 7)
    log = tmp_path / "log"
    log.write_text("0123456789 sesame 0123456789")
    assert canaries_in(log, ["other", "sesame", "67"]) == [1, 2]
    assert canaries_in(log, []) == []


def test_the_checker_knows_nothing_of_the_service() -> None:
    (folder,) = tests.checker.__path__
    for path in Path(folder).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "penstock"], path
            assert not [name for name in names if name.startswith("tests.") and "checker" not in name], path
