"""The spool's disk is full: what does not fit waits and says so, the others go on."""

import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bridge import Bridge
from tests.support.conversation import Conversation
from tests.support.crash import until
from tests.support.request import chat, embedding
from tests.support.service import Service

SMALL_BYTES, LARGE_BYTES = 128 * 1024, 16 * 1024 * 1024


class Disk:
    """A file system of its own, in memory."""

    full = "No space left on device"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mount("-t", "tmpfs", "penstock-test", "-o", f"size={SMALL_BYTES}")

    def mount(self, *arguments: str) -> None:
        """Call mount; raises what it met."""
        subprocess.run(["mount", *arguments, self.folder], check=True, capture_output=True)

    def give(self, _service: Service, size_bytes: int) -> None:
        """Let it hold so much."""
        self.mount("-o", f"remount,size={size_bytes}")

    def end(self) -> None:
        """Leave nothing mounted."""
        subprocess.run(["umount", "--lazy", self.folder], check=True)


class FileSizes:
    """A limit of each file that the process writes: `write` fails as on a full disk; no right to mount is needed."""

    full = "File too large"

    def __init__(self, folder: Path) -> None:
        if not hasattr(resource, "prlimit"):
            raise OSError("only Linux has prlimit")
        self.folder = folder

    def give(self, service: Service, size_bytes: int) -> None:
        """Let a file be so large."""
        resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))

    def end(self) -> None:
        """Nothing is left of it."""


@pytest.fixture(params=[Disk, FileSizes])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk | FileSizes]:
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        made: Disk | FileSizes = request.param(folder)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"room cannot be limited so here: {error}")
    try:
        yield made
    finally:
        made.end()


async def told(service: Service, event: str, full: str) -> None:
    """Wait until a batch waits for room."""

    async def says_so() -> bool:
        return any(full in each["error"] for each in service.logs(event))

    await until(says_so)


@pytest.mark.outcome("spool-full")
async def test_what_does_not_fit_waits_and_says_so_and_the_others_go_on(bridge: Bridge, room: Disk | FileSizes) -> None:
    async with bridge.service(spool_folder=room.folder, janitor_interval_seconds=60) as service:
        room.give(service, SMALL_BYTES)
        talk = Conversation(bridge, service)
        upload = [chat(f"upload-{n}", model="upload", words=5_000) for n in range(8)]
        download = [embedding(f"download-{n}", model="download", inputs=400) for n in range(4)]
        for each in download:
            each["body"]["dimensions"] = 32
        await bridge.produce(download, partition=0)  # alone: its file would find no room beside that of the others
        await told(service, "batch.waits", room.full)
        await bridge.produce(upload, partition=0)
        await told(service, "batch.failed", room.full)
        await talk.ask([chat(f"small-{n}", model="small") for n in range(3)])
        assert {each.custom_id[:5] for each in bridge.reader.received[bridge.result_topic]} == {"small"}
        room.give(service, LARGE_BYTES)
        await talk.answers([each["custom_id"] for each in [*upload, *download]], hurry=True)
        assert [await talk.creates(model) for model in ("upload", "download")] == [1, 1]
        await talk.check()
