"""Running a batch: its input file in, its output and error files and its journal lines out. Runs in a worker thread."""

import os
import time
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from batchsim.answer import answer_digested, request_digest, request_id
from batchsim.chance import name
from batchsim.errors import status_error_body
from batchsim.fates import Fates, decide_fates, shuffled
from batchsim.journal import executed_line
from batchsim.records import BatchRecord, Status, Usage
from batchsim.rules import LineFault
from batchsim.validation import Line, decode_line

SLICE_LINES = 256
UNDONE = {
    Status.FINALIZING: ("request_timeout", "This request could not be executed in time."),
    Status.IN_PROGRESS: ("batch_expired", "This request could not be executed before the completion window expired."),
    Status.CANCELLING: ("batch_cancelled", "This request was not executed because the batch was cancelled."),
}
OK = 200

encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Executed:
    """What came of an execution. Paths are of the synced files, None where nothing was written to them."""

    output: Path | None = None
    error: Path | None = None
    completed: int = 0
    failed: int = 0
    usage: Usage = field(default_factory=Usage)
    journal: bytearray = field(default_factory=bytearray)


def sliced(lines: Iterator[bytes]) -> Iterator[bytes]:
    """The same lines; now and then another thread gets its turn, so that the API goes on answering."""
    for number, line in enumerate(lines):
        if number % SLICE_LINES == 0:
            time.sleep(0)
        yield line


class Execution:
    """One run of a batch. Running it again writes the same bytes."""

    def __init__(
        self, batch: BatchRecord, source: BinaryIO, folder: Path, seed: str, embedding_dimensions: int
    ) -> None:
        self.batch = batch
        self.source = source
        self.folder = folder
        self.seed = seed
        self.embedding_dimensions = embedding_dimensions
        self.offsets = array("Q", [0])
        self.executed = Executed()

    def run(self) -> Executed:
        """Write both files, shuffled, and gather the journal's lines. Memory holds the latter, never the files."""
        fates = self.scan()
        total = len(self.offsets) - 1
        twice = sorted(index for index, fault in fates.faults.items() if fault.defect == "twice")
        order = shuffled(self.seed, self.batch.id, "output", [*range(total), *twice])
        paths = self.folder / f"{self.batch.id}.output", self.folder / f"{self.batch.id}.error"
        repeated: set[int] = set()
        with ExitStack() as stack:
            output, error = (stack.enter_context(path.open("wb", buffering=1 << 20)) for path in paths)
            for position, index in enumerate(order):
                if position % SLICE_LINES == 0:
                    time.sleep(0)
                line = decode_line(
                    os.pread(self.source.fileno(), self.offsets[index + 1] - self.offsets[index], self.offsets[index])
                )
                if index in fates.undone:
                    code, message = UNDONE[self.batch.status]
                    self.write_undone(error, line, code, message)
                else:
                    self.write_done(output, error, line, fates.faults.get(index), again=index in repeated)
                    repeated.add(index) if index in fates.faults else None
            for file in (output, error):
                file.flush()
                os.fsync(file.fileno())
        keep = kept if self.batch.outcome.empty_files else kept_unless_empty
        self.executed.output, self.executed.error = (keep(path) for path in paths)
        return self.executed

    def scan(self) -> Fates:
        """Find where each line starts and what becomes of it."""
        outcome = self.batch.outcome
        special = bool(outcome.lines) or self.batch.done_fraction < 1
        custom_ids: list[str] = []
        for raw in sliced(iter(self.source)):
            self.offsets.append(self.offsets[-1] + len(raw))
            if special:
                custom_ids.append(decode_line(raw).custom_id)
        return decide_fates(self.seed, self.batch.id, custom_ids, outcome.lines, self.batch.done_fraction)

    def write_done(
        self, output: BinaryIO, error: BinaryIO, line: Line, fault: LineFault | None, *, again: bool
    ) -> None:
        """Write the line of a request that was reached; `again` when it is written a second time."""
        if fault is not None and fault.status_code is None and fault.code is not None:
            said = fault.message or "This request could not be executed."
            self.write_undone(error, line, fault.code, said, fault)
            return
        digest = request_digest(self.batch.endpoint, bytes(line.body))
        if fault is not None and fault.status_code is not None:
            status_code, body = fault.status_code, line_error_body(fault, fault.status_code, digest)
        else:
            status_code, body = answer_digested(
                self.batch.endpoint, bytes(line.body), digest, self.embedding_dimensions
            )
        if not again:
            self.count(line, status_code, body)
        defect = fault.defect if fault else None
        if defect == "missing":
            return
        shown = encode(body).decode() if defect == "body_as_string" else body
        response = {"status_code": status_code, "request_id": request_id(digest), "body": shown}
        self.write(output if status_code == OK else error, line.custom_id, response, None, fault)
        if defect == "in_both_files":
            response = {"status_code": 500, "request_id": request_id(digest), "body": status_error_body(500)}
            self.write(error, line.custom_id, response, None)
        elif defect == "unknown_custom_id":
            self.write(output, "unknown-" + name(self.seed, self.batch.id, line.custom_id), response, None)

    def count(self, line: Line, status_code: int, body: dict[str, Any]) -> None:
        """Count an executed request, and note it for the journal."""
        if status_code == OK:
            self.executed.completed += 1
            self.executed.usage.add(body)
        else:
            self.executed.failed += 1
        self.executed.journal += executed_line(self.batch, line.custom_id, sha256(line.body).hexdigest(), status_code)

    def write_undone(
        self, error: BinaryIO, line: Line, code: str, message: str, fault: LineFault | None = None
    ) -> None:
        """Write the line of a request that was never executed; only those of a finished batch count as failed."""
        if self.batch.status is Status.FINALIZING:
            self.executed.failed += 1
        self.write(error, line.custom_id, None, {"code": code, "message": message}, fault)

    def write(
        self,
        file: BinaryIO,
        custom_id: str,
        response: dict[str, Any] | None,
        error: dict[str, str] | None,
        fault: LineFault | None = None,
    ) -> None:
        """Write one line of a result file, as odd as the fault says."""
        line_id = "batch_req_" + name(self.seed, self.batch.id, custom_id)
        line = {"id": line_id, "custom_id": custom_id, "response": response, "error": error}
        if fault is not None:
            line = altered(line, fault)
        written = encode(line)
        file.write(written[: len(written) // 2] if fault is not None and fault.defect == "cut" else written)
        file.write(b"\n")


def altered(line: dict[str, Any], fault: LineFault) -> dict[str, Any]:
    """A line with what a fault writes into it, and without what it leaves out."""
    for names, value in fault.written.items():
        outer, _, inner = names.rpartition(".")
        if not outer:
            line[inner] = value
        elif isinstance(line.get(outer), dict):
            line[outer] = {**line[outer], inner: value}
    return {member: value for member, value in line.items() if member not in fault.without}


def kept(path: Path) -> Path | None:
    """The path of a file, whatever is in it."""
    return path


def kept_unless_empty(path: Path) -> Path | None:
    """The path of a file that has something in it; an empty one is deleted."""
    if path.stat().st_size:
        return path
    path.unlink()
    return None


def line_error_body(fault: LineFault, status_code: int, digest: str) -> dict[str, Any]:
    """The body of a request that failed by rule; its message names the request, as proof of whose it is."""
    body = status_error_body(status_code, fault.code, fault.message)
    body["error"]["message"] += f" (request ID {request_id(digest)})"
    return body


def write_reordered(source: Path, target: Path, seed: str) -> None:
    """Write the lines of a file in another order, synced to disk."""
    offsets = array("Q", [0])
    with source.open("rb") as lines, target.open("wb", buffering=1 << 20) as reordered:
        for line in sliced(iter(lines)):
            offsets.append(offsets[-1] + len(line))
        for index in shuffled(seed, source.name, "reordered", range(len(offsets) - 1)):
            reordered.write(os.pread(lines.fileno(), offsets[index + 1] - offsets[index], offsets[index]))
        reordered.flush()
        os.fsync(reordered.fileno())
