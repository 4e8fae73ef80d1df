"""The spool's disk is full: what does not fit waits and says so, the others go on."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bridge import Bridge
from tests.support.conversation import Conversation
from tests.support.request import chat, embedding
from tests.support.service import Service
from tests.support.waiting import NeverCame

SMALL, LARGE = "128k", "16m"


class Disk:
    """A file system of its own, in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resize(self, size: str, *options: str) -> None:
        """Let it hold so much; mount it first with no options given."""
        what = ["-t", "tmpfs", "penstock-test"] if not options else []
        with_options = ",".join([*options, f"size={size}"])
        subprocess.run(["mount", *what, "-o", with_options, self.folder], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    made = Disk(folder)
    try:
        made.resize(SMALL)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    try:
        yield made
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


async def told(service: Service, event: str) -> None:
    """Wait until a batch waits for room."""
    for each in [await service.logged(event), *service.logs(event)]:
        if "No space left on device" in each["error"]:
            return
    raise NeverCame(f"no {event} says that the disk is full")


@pytest.mark.outcome("spool-full")
async def test_what_does_not_fit_waits_and_says_so_and_the_others_go_on(bridge: Bridge, disk: Disk) -> None:
    async with bridge.service(spool_folder=disk.folder, janitor_interval_seconds=60) as service:
        talk = Conversation(bridge, service)
        upload = [chat(f"upload-{n}", model="upload", words=5_000) for n in range(8)]
        download = [embedding(f"download-{n}", model="download", inputs=400) for n in range(4)]
        for each in download:
            each["body"]["dimensions"] = 32
        await bridge.produce([*upload, *download])
        await told(service, "batch.failed")
        await told(service, "batch.waits")
        await talk.ask([chat(f"small-{n}", model="small") for n in range(3)])
        assert {each.custom_id[:5] for each in bridge.reader.received[bridge.result_topic]} == {"small"}
        disk.resize(LARGE, "remount")
        await talk.answers([each["custom_id"] for each in [*upload, *download]], hurry=True)
        assert [await talk.creates(model) for model in ("upload", "download")] == [1, 1]
        await talk.check()
