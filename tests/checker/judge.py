"""The judge: pure, fed one record at a time, asked for its report at the end."""

import re
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain

import msgspec

from tests.checker.expectation import (
    CODE,
    LINE,
    NONE,
    ORIGIN,
    RESULT_ID,
    RESULT_LINE,
    REWRITTEN,
    TRUNCATED_SHA256,
    Expected,
    Message,
    Output,
    Response,
    ResultLine,
    answer_fingerprint,
    canonical,
    execution_fingerprint,
    expect,
    fingerprint,
    holds_one_of,
    value_fingerprint,
)
from tests.checker.report import Kind, Report
from tests.checker.shelf import Shelf, count_up

OK = 200
REQUEST_IDS = re.compile(rb"req_[0-9a-f]{32}")


class Judge:
    """Feed it all messages, then everything else in any order.

    Args:
        embedding_dimensions: the simulator's setting.
        canaries: texts that no header may hold.
    """

    def __init__(self, *, embedding_dimensions: int = 8, canaries: Sequence[str] = ()) -> None:
        self.embedding_dimensions = embedding_dimensions
        self.canaries = [canary.encode() for canary in canaries]
        self.report = Report()
        self.shelves: dict[tuple[str, int], Shelf] = {}
        self.executions = array("Q")

    def message(self, message: Message) -> None:
        """A committed record of a request topic; those of a partition in the order of their offsets."""
        self.report.messages += 1
        shelf = self.shelves.setdefault((message.source, message.partition), Shelf())
        shelf.add(message.offset, expect(message, self.embedding_dimensions))

    def committed(self, output: Output) -> None:
        """A result or dead letter that a read_committed reader sees."""
        if output.dead:
            self.report.dead_letters += 1
        else:
            self.report.results += 1
        found = self.compare(output)
        if found is not None:
            count_up(found[0].committed, found[1])
            self.count(output)

    def aborted(self, output: Output) -> None:
        """A result or dead letter that only a read_uncommitted reader sees: it must be right too."""
        self.report.aborted += 1
        self.compare(output)

    def saw(self, result_id: str) -> None:
        """The result id of a record that a live reader saw."""
        self.report.seen += 1
        found = self.find(result_id)
        if found is None:
            self.report.violate(Kind.SEEN_AND_GONE, result_id)
        elif count_up(found[0].seen, found[1]) == 2:
            self.report.violate(Kind.SEEN_TWICE, result_id)

    def executed(self, url: str, body_sha256: str, status_code: int) -> None:
        """An execution in the simulator's journal; only successful ones are paid."""
        if status_code == OK:
            self.executions.append(execution_fingerprint(url, body_sha256))

    def told(self, place: str) -> None:
        """A canary stands in a file."""
        self.report.violate(Kind.CANARY_TOLD, place)

    def hangs(self, place: str) -> None:
        """A partition whose end a read_committed reader cannot reach."""
        self.report.violate(Kind.TRANSACTION_OPEN, place)

    def verdict(self, extra_executions_allowed: int = 0) -> Report:
        """The report, once everything was fed."""
        for (source, partition), shelf in self.shelves.items():
            for index, count in enumerate(shelf.committed):
                if count == 1:
                    continue
                result_id = f"{source}/{partition}/{shelf.offsets[index]}"
                self.report.violate(Kind.DOUBLED if count else Kind.LOST, result_id)
                if shelf.seen[index] and not count:
                    self.report.violate(Kind.SEEN_AND_GONE, result_id)
        self.judge_executions(extra_executions_allowed)
        return self.report

    def find(self, result_id: str | None) -> tuple[Shelf, int] | None:
        """The message that a result id names."""
        source, _, rest = (result_id or "").rpartition("/")
        source, _, partition = source.rpartition("/")
        partition = partition.partition("~")[0]  # a later incarnation: its offsets are those of the log as it is
        if not partition.isdigit() or not rest.isdigit():
            return None
        shelf = self.shelves.get((source, int(partition)))
        index = shelf.find(int(rest)) if shelf else None
        return None if shelf is None or index is None else (shelf, index)

    def compare(self, output: Output) -> tuple[Shelf, int] | None:
        """Hold an output against its message, which is returned."""
        if self.canaries and holds_one_of(self.canaries, output.headers):
            self.report.violate(Kind.CANARY_TOLD, f"header of {output.place}")
        result_id = output.header(RESULT_ID)
        found = self.find(result_id)
        if found is None:
            self.report.violate(Kind.ORPHANED, f"{output.place} {result_id}")
            return None
        expected = found[0].expected(found[1])
        what = f"{result_id} at {output.place}"
        if fingerprint(output.key) != expected.key:
            self.report.violate(Kind.KEY_CHANGED, what)
        if output.dead:
            self.compare_dead_letter(output, expected, what)
        else:
            self.compare_result(output, expected, what)
        return found

    def count(self, output: Output) -> None:
        """How a message ended."""
        if output.dead:
            self.report.dead_letter_codes[output.header(CODE) or "none"] += 1
        elif (line := read_result(output.value)) is not None and line.response is not None:
            self.report.statuses[str(line.response.status_code)] += 1
        elif line is not None:
            self.report.errors[str(line.error.get("code") if isinstance(line.error, dict) else None)] += 1

    def compare_result(self, output: Output, expected: Expected, what: str) -> None:
        """A result is the simulator's answer to its message, or an error without an answer."""
        line = read_result(output.value)
        if line is None:
            self.report.violate(Kind.CROSSED, f"{what}: not a result")
            return
        if fingerprint(line.custom_id) != expected.custom_id:
            self.report.violate(Kind.CUSTOM_ID_CHANGED, what)
        if line.response is None:
            return
        if expected.answer == NONE:
            self.report.unjudged += 1
        elif not answers(line.response, expected):
            self.report.violate(Kind.CROSSED, what)

    def compare_dead_letter(self, output: Output, expected: Expected, what: str) -> None:
        """A dead letter is its message's own bytes, and says where that stood."""
        result_id = output.header(RESULT_ID) or ""
        origin = [output.header(name) for name in ORIGIN]
        _, partition, offset = result_id.rsplit("/", 2)
        if origin != [partition.partition("~")[0], offset]:
            self.report.violate(Kind.DEAD_LETTER_CHANGED, f"{what}: another origin")
        truncated = output.header(TRUNCATED_SHA256)
        if output.header(CODE) != REWRITTEN:
            same = (fingerprint(truncated) if truncated else value_fingerprint(output.value)) == expected.value
        elif truncated:
            self.report.unjudged += 1
            same = True
        else:
            same = carries(output.value, expected)
        if not same:
            self.report.violate(Kind.DEAD_LETTER_CHANGED, what)

    def judge_executions(self, allowed: int) -> None:
        """Hold the journal's executions against the messages: each body once."""
        self.report.executions = len(self.executions)
        wanted = iter(sorted(chain.from_iterable(shelf.executions() for shelf in self.shelves.values())))
        extra, unasked = surplus(iter(sorted(self.executions)), wanted)
        self.report.extra_executions = len(extra)
        if len(extra) > allowed:
            for result_id in self.named(extra):
                self.report.violate(Kind.EXECUTED_TWICE, result_id)
        unreadable = sum(chain.from_iterable((each == NONE for each in s.executions()) for s in self.shelves.values()))
        for each in unasked[unreadable:]:
            self.report.violate(Kind.EXECUTED_UNASKED, f"execution {each:016x}")

    def named(self, executions: Sequence[int]) -> Iterator[str]:
        """The result ids of the messages with these executions, once for each."""
        places = {}
        wanted = set(executions)
        for (source, partition), shelf in self.shelves.items():
            for index, execution in enumerate(shelf.executions()):
                if execution in wanted:
                    places[execution] = f"{source}/{partition}/{shelf.offsets[index]}"
        return (places[execution] for execution in executions)


def read_result(value: bytes | None) -> ResultLine | None:
    """A result's value; None when it is not one."""
    try:
        return RESULT_LINE.decode(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def answers(response: Response, expected: Expected) -> bool:
    """Whether a response is the answer to the message: the simulator's own, or a failure that names no other."""
    if fingerprint(response.request_id) != expected.request_id:
        return False
    if answer_fingerprint(response.status_code, canonical(response.body)) == expected.answer:
        return True
    named = {fingerprint(each) for each in REQUEST_IDS.findall(bytes(response.body))}
    return response.status_code != OK and named <= {expected.request_id}


def carries(value: bytes | None, expected: Expected) -> bool:
    """Whether a value is the message's request, perhaps written anew."""
    try:
        line = LINE.decode(value or b"")
        same_body = fingerprint(canonical(line.body)) == expected.request
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return same_body and fingerprint(line.custom_id) == expected.custom_id


def surplus(done: Iterator[int], wanted: Iterator[int]) -> tuple[list[int], list[int]]:
    """What was done more often than wanted, and what was done and never wanted; both come in order."""
    extra: list[int] = []
    unasked: list[int] = []
    want, last = next(wanted, None), None
    for each in done:
        while want is not None and want < each:
            want = next(wanted, None)
        if want == each:
            last, want = each, next(wanted, None)
        else:
            (extra if last == each else unasked).append(each)
    return extra, unasked
