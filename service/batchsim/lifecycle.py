"""The life of a batch: one task per open batch leads it from status to status, at the times its record says.

Every step is committed before the next begins, and is made only if the status is still the expected one, so that a
cancel may come at any time and a killed process goes on where it was.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal, Self, TypeVar, assert_never

from batchsim.chance import name
from batchsim.execution import Executed, Execution, sliced, write_reordered
from batchsim.records import BatchRecord, FileRecord, Rejection, Status
from batchsim.rules import Failure
from batchsim.settings import Settings
from batchsim.store import NewFile, Store
from batchsim.validation import (
    USUAL,
    Accepted,
    Rejected,
    Usual,
    input_limit_rejection,
    token_limit_rejection,
    validate,
)

OUTPUT_FILE_SECONDS = 30 * 86_400
SWEEP_SECONDS = 60.0

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


class Lifecycle:
    """Runs all open batches, and calls `ended` after each.

    Entered, it goes on with those of an earlier process; left, it stops at once.
    """

    def __init__(self, store: Store, settings: Settings, ended: Callable[[], None]) -> None:
        self.store = store
        self.ended = ended
        self.settings = settings
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="batch")
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.wakes: dict[str, asyncio.Event] = {}
        self.admission = asyncio.Lock()
        self.sweeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        for batch in self.store.open_batches():
            self.start(batch)
        self.sweeper = asyncio.create_task(self.sweep())
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self.tasks.values(), *([self.sweeper] if self.sweeper else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.worker.shutdown()

    def start(self, batch: BatchRecord) -> None:
        """Begin to lead a batch."""
        self.wakes[batch.id] = asyncio.Event()
        task = asyncio.create_task(self.live(batch), name=batch.id)
        self.tasks[batch.id] = task
        task.add_done_callback(self.forget)

    def forget(self, task: asyncio.Task[None]) -> None:
        """A batch is over, or the simulator itself has failed on it."""
        del self.tasks[task.get_name()], self.wakes[task.get_name()]
        if not task.cancelled() and task.exception() is not None:
            logger.error("%s is stuck by an error of the simulator", task.get_name(), exc_info=task.exception())

    async def sweep(self) -> None:
        """Delete expired files, for ever."""
        while True:
            await self.store.delete_expired_files()
            await asyncio.sleep(SWEEP_SECONDS)

    async def cancel(self, batch: BatchRecord) -> BatchRecord | None:
        """Begin to cancel a batch that has not begun to be; None when its status has changed meanwhile."""

        def change(changed: BatchRecord) -> None:
            now = time.time()
            changed.done_fraction = changed.progress(now)
            if changed.outcome.done_fraction is not None:
                changed.done_fraction = changed.outcome.done_fraction
            changed.enter(Status.CANCELLING, now)

        cancelled = await self.store.update_batch(batch.id, batch.status, change)
        if cancelled is not None and batch.id in self.wakes:
            self.wakes[batch.id].set()
        return cancelled

    async def live(self, batch: BatchRecord) -> None:
        """Lead a batch to its end."""
        while not batch.is_terminal:
            advanced = await self.step(batch)
            if advanced is None:
                self.wakes[batch.id].clear()
                current = self.store.batch(batch.id)
                assert current is not None, "batches are never deleted"
                advanced = current
            batch = advanced
        self.ended()

    async def step(self, batch: BatchRecord) -> BatchRecord | None:
        """Wait in the present status, then leave it; None when the status was changed by somebody else."""
        match batch.status:
            case Status.VALIDATING:
                return await self.leave_validating(batch)
            case Status.IN_PROGRESS:
                return await self.leave_in_progress(batch)
            case Status.FINALIZING:
                return await self.leave_finalizing(batch)
            case Status.CANCELLING:
                return await self.leave_cancelling(batch)
            case Status.COMPLETED | Status.FAILED | Status.EXPIRED | Status.CANCELLED:
                raise AssertionError("a terminal batch has no next step")
            case _:
                assert_never(batch.status)

    async def wait(self, batch: BatchRecord, seconds: float) -> bool:
        """Let the batch stay in its status, for ever if it is to get stuck there; False when it was cancelled."""
        entered = batch.times.get(batch.status, batch.created_at)
        stuck = batch.outcome.stuck == batch.status
        left = None if stuck else max(0.0, entered + seconds - time.time())
        if left == 0.0:
            return True
        wake = self.wakes[batch.id]
        try:
            await asyncio.wait_for(wake.wait(), left)
        except TimeoutError:
            return True
        return False

    async def leave_validating(self, batch: BatchRecord) -> BatchRecord | None:
        """Validate: to `failed` or `in_progress`."""
        if not await self.wait(batch, batch.delays.validating):
            return None
        try:
            self.check_prescribed_failure(batch)
            self.check_input_file(batch)
            accepted = await self.in_worker(partial(self.validate_input, batch))
            async with self.admission:
                self.check_enqueued(accepted)
                return await self.store.update_batch(batch.id, batch.status, partial(enter_in_progress, accepted))
        except Rejected as rejected:
            return await self.store.update_batch(batch.id, batch.status, partial(enter_failed, rejected.rejection))

    async def leave_in_progress(self, batch: BatchRecord) -> BatchRecord | None:
        """Run for the set time: to `finalizing`; to `expired` or `cancelling` if told so, or if the window ends."""
        outcome = batch.outcome
        window = max(0.0, batch.expires_at - batch.times[Status.IN_PROGRESS])
        overdue = batch.delays.in_progress > window
        if not await self.wait(batch, min(batch.delays.in_progress, window)):
            return None
        if overdue or outcome.end == "expired":
            default = window / batch.delays.in_progress if overdue else 0.5
            batch.done_fraction = default if outcome.done_fraction is None else outcome.done_fraction
            return await self.finish(batch, Status.EXPIRED)
        if outcome.end == "cancelled":
            batch.done_fraction = 0.5 if outcome.done_fraction is None else outcome.done_fraction
            return await self.store.update_batch(
                batch.id, batch.status, partial(enter_early_end, Status.CANCELLING, batch.done_fraction)
            )
        return await self.store.update_batch(batch.id, batch.status, partial(enter_plainly, Status.FINALIZING))

    async def leave_finalizing(self, batch: BatchRecord) -> BatchRecord | None:
        """Write the files: to `completed`."""
        if not await self.wait(batch, batch.delays.finalizing):
            return None
        return await self.finish(batch, Status.COMPLETED)

    async def leave_cancelling(self, batch: BatchRecord) -> BatchRecord | None:
        """Write what was done until then: to `cancelled`."""
        self.wakes[batch.id].clear()
        await self.wait(batch, batch.delays.cancelling)
        return await self.finish(batch, Status.CANCELLED)

    def check_prescribed_failure(self, batch: BatchRecord) -> None:
        """Reject the batch if its outcome says so, whatever its lines are."""
        failure = batch.outcome.failure
        if failure is not None and failure.contains is None:
            raise self.prescribed(failure, batch, failure.line)

    def prescribed(self, failure: Failure, batch: BatchRecord, line: int | None) -> Rejected:
        """The exception for a failure that a rule prescribes."""
        usual = USUAL.get(failure.code, Usual(None, failure.code))
        message = failure.message or usual.message
        if failure.code == "token_limit_exceeded" and failure.message is None:
            limit = self.settings.limits.enqueued_tokens.get(batch.model or "", 0)
            message = token_limit_rejection(batch.model or "", self.settings.organization, limit).message
        return Rejected(Rejection(failure.code, message, failure.param or usual.param, line))

    def up_to_prescribed(self, lines: Iterator[bytes], batch: BatchRecord) -> Iterator[bytes]:
        """The same lines, up to the one by which the batch is to be rejected."""
        failure = batch.outcome.failure
        text = failure.contains.encode() if failure and failure.contains is not None else None
        for number, line in enumerate(lines, 1):
            if failure is not None and text is not None and text in line:
                raise self.prescribed(failure, batch, number)
            yield line

    def check_input_file(self, batch: BatchRecord) -> None:
        """Reject the batch if its input file is not there, or is no batch input."""
        record = self.store.file(batch.input_file_id)
        if record is None or record.purpose != "batch":
            raise Rejected(cannot_find_file(batch.input_file_id))

    def check_enqueued(self, accepted: Accepted) -> None:
        """Reject a batch that does not fit beside those that are open. The caller holds `admission`."""
        limit = self.settings.limits.enqueued_tokens.get(accepted.model)
        if limit is not None and self.store.enqueued_tokens().get(accepted.model, 0) + accepted.tokens > limit:
            raise Rejected(token_limit_rejection(accepted.model, self.settings.organization, limit))
        limit = self.settings.limits.enqueued_inputs
        if accepted.inputs and self.store.enqueued_inputs() + accepted.inputs > limit:
            raise Rejected(input_limit_rejection(limit))

    def validate_input(self, batch: BatchRecord) -> Accepted:
        """Check the input file, and keep its bytes for the batch. Runs in the worker thread."""
        path = self.store.folder.input(batch.id)
        path.unlink(missing_ok=True)
        try:
            os.link(self.store.folder.file(batch.input_file_id), path)
        except FileNotFoundError:
            raise Rejected(cannot_find_file(batch.input_file_id)) from None
        with path.open("rb", buffering=1 << 20) as lines:
            checked = self.up_to_prescribed(sliced(iter(lines)), batch)
            return validate(checked, batch.endpoint, self.settings.models, self.settings.limits)

    async def in_worker(self, work: Callable[[], Result]) -> Result:
        """Run CPU work in the worker thread, one piece after the other."""
        return await asyncio.get_running_loop().run_in_executor(self.worker, work)

    async def finish(self, batch: BatchRecord, status: Status) -> BatchRecord | None:
        """Execute what is done of the batch and commit files, counts, journal and terminal status as one."""
        if Status.IN_PROGRESS not in batch.times:
            return await self.store.update_batch(batch.id, batch.status, partial(enter_plainly, status))
        executed, new_files = await self.in_worker(partial(self.execute, batch))
        output, error = new_files.get("output"), new_files.get("error")

        def change(changed: BatchRecord) -> None:
            changed.done_fraction = batch.done_fraction
            changed.completed, changed.failed, changed.usage = executed.completed, executed.failed, executed.usage
            changed.output_file_id = output.record.id if output else None
            changed.error_file_id = error.record.id if error else None
            changed.enter(status, time.time())

        kept = [new for kind, new in new_files.items() if kind not in batch.outcome.vanished]
        for kind in new_files.keys() & set(batch.outcome.vanished):
            new_files[kind].path.unlink()
        return await self.store.update_batch(batch.id, batch.status, change, kept, bytes(executed.journal))

    def execute(self, batch: BatchRecord) -> tuple[Executed, dict[Literal["output", "error"], NewFile]]:
        """Execute the batch and describe its result files. Runs in the worker thread."""
        folder, seed = self.store.folder, self.store.seed
        with folder.input(batch.id).open("rb", buffering=1 << 20) as source:
            executed = Execution(batch, source, folder.scratch, seed, self.settings.embedding_dimensions).run()
        new_files: dict[Literal["output", "error"], NewFile] = {}
        if executed.output is not None:
            reordered: Path | None = None
            if batch.outcome.reordered:
                reordered = executed.output.with_suffix(".reordered")
                write_reordered(executed.output, reordered, seed)
            new_files["output"] = NewFile(self.describe(batch, "output", executed.output), executed.output, reordered)
        if executed.error is not None:
            new_files["error"] = NewFile(self.describe(batch, "error", executed.error), executed.error)
        return executed, new_files

    def describe(self, batch: BatchRecord, kind: str, path: Path) -> FileRecord:
        """The file object of a result file."""
        now = time.time()
        return FileRecord(
            id="file-" + name(self.store.seed, batch.id, kind),
            filename=f"{batch.id}_{kind}.jsonl",
            purpose="batch_output",
            bytes=path.stat().st_size,
            created_at=now,
            expires_at=now + (batch.output_expires_after_seconds or OUTPUT_FILE_SECONDS),
        )


def cannot_find_file(file_id: str) -> Rejection:
    """The input file is missing or has another purpose."""
    return Rejection("invalid_request", f"Cannot find file {file_id} with purpose 'batch'.", "file_id")


def enter_plainly(status: Status, batch: BatchRecord) -> None:
    """Enter a status now."""
    batch.enter(status, time.time())


def enter_early_end(status: Status, done_fraction: float, batch: BatchRecord) -> None:
    """Enter a status that ends the work when only so much of it is done."""
    batch.done_fraction = done_fraction
    batch.enter(status, time.time())


def enter_failed(rejection: Rejection, batch: BatchRecord) -> None:
    """Fail at validation."""
    batch.rejection = rejection
    batch.enter(Status.FAILED, time.time())


def enter_in_progress(accepted: Accepted, batch: BatchRecord) -> None:
    """Begin to work on a validated batch."""
    batch.model, batch.total = accepted.model, accepted.requests
    batch.tokens, batch.inputs = accepted.tokens, accepted.inputs
    batch.enter(Status.IN_PROGRESS, time.time())
