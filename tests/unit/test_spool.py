import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from penstock.settings import SpoolSettings
from penstock.spool import Spool

LIVING = """
import sys, uuid, pathlib, time
from penstock.settings import SpoolSettings
from penstock.spool import Spool

spool = Spool(SpoolSettings(folder=pathlib.Path(sys.argv[1])), uuid.UUID(sys.argv[2]))
spool.open()
spool.path("file").write_bytes(b"x")
print("open", flush=True)
time.sleep(60)
"""


def spool_of(folder: Path) -> Spool:
    return Spool(SpoolSettings(folder=folder), uuid.uuid4())


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    replica = uuid.uuid4()
    other = subprocess.Popen([sys.executable, "-c", LIVING, str(tmp_path), str(replica)], stdout=subprocess.PIPE)
    try:
        assert other.stdout
        assert other.stdout.readline() == b"open\n"
        for opened, left in ((spool_of(tmp_path), True), (spool_of(tmp_path), False)):
            if not left:
                other.send_signal(signal.SIGKILL)
                other.wait()
            opened.open()
            assert (tmp_path / replica.hex / "file").exists() == left
            opened.close()
            assert not opened.folder.exists()
    finally:
        other.kill()
        other.communicate()


def test_what_is_not_a_replicas_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / uuid.uuid4().hex).write_bytes(b"a file")
    before = set(tmp_path.iterdir())
    spool = spool_of(tmp_path)
    spool.open()
    spool.close()
    assert set(tmp_path.iterdir()) - before == {tmp_path / "lock"}
    assert before <= set(tmp_path.iterdir())


def test_a_folder_is_one_process_own(tmp_path: Path) -> None:
    spool = spool_of(tmp_path)
    spool.open()
    twin = Spool(SpoolSettings(folder=tmp_path), uuid.UUID(spool.folder.name))
    with pytest.raises(BlockingIOError):
        twin.open()
    twin.close()
    assert spool.folder.exists()
    spool.close()


async def test_the_disks_room_is_shown_beside_what_may_be_taken_of_it(tmp_path: Path) -> None:
    spool = spool_of(tmp_path)
    spool.open()
    await spool.measure()
    free = REGISTRY.get_sample_value("penstock_spool_free_bytes")
    assert free == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.2)
    limit = REGISTRY.get_sample_value("penstock_spool_limit_bytes", {"direction": "upload"})
    assert limit == SpoolSettings().upload_bytes_max
    spool.close()
