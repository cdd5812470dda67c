"""Spools of runs that were killed: the next run deletes them, and those of no other."""

import os
import pickle
import subprocess
import sys

import pytest

from eomt_ext_core.evaluation.spool import Spool

HOLD = """
import pickle, sys, time
from eomt_ext_core.evaluation.spool import Spool
spool = Spool(sys.argv[1])
spool.write(0, None, {}, {"image": b"1"})
print(pickle.dumps(spool).hex(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process with a spool in the same folder."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        yield process, bytes.fromhex(process.stdout.readline())
        process.kill()


def test_only_spools_of_dead_processes_are_deleted(other, tmp_path):
    process, _ = other
    (theirs,) = tmp_path.iterdir()
    spool = Spool(tmp_path)
    assert set(tmp_path.iterdir()) == {theirs, spool.folder}

    process.kill()
    process.wait()
    assert theirs.exists()
    another = Spool(tmp_path)
    assert set(tmp_path.iterdir()) == {spool.folder, another.folder}
    for mine in (spool, another):
        mine.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_spool_that_travels_outlives_the_process_that_made_it(other, tmp_path):
    process, pickled = other
    spool = pickle.loads(pickled)
    process.kill()
    process.wait()
    Spool(tmp_path).remove()
    assert Spool.read(spool.folder / "000000.npz").thumbnails == {"image": b"1"}
    spool.remove()
    assert list(tmp_path.iterdir()) == []


def test_nothing_else_is_deleted(tmp_path):
    (tmp_path / ".scores-mine").mkdir()
    (tmp_path / ".scores-mine" / "notes.txt").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".scores-link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / ".scores-file").write_text("mine")
    (tmp_path / ".scores-old").mkdir()
    (tmp_path / ".scores-old" / "000000.npz").write_bytes(b"")
    spool = Spool(tmp_path)
    spool.remove()
    assert {path.name for path in tmp_path.iterdir()} == {".scores-mine", "elsewhere", ".scores-link", ".scores-file"}
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_where_it_is_gone_it_is_gone(tmp_path):
    spool = Spool(tmp_path)
    travelled = pickle.loads(pickle.dumps(spool))
    spool.remove()
    assert not spool.folder.exists()
    travelled.remove()
    pickle.loads(pickle.dumps(spool)).remove()


def test_a_file_system_without_locks_serves_too(tmp_path, monkeypatch):
    def refuse(descriptor, kind):
        raise OSError(os.strerror(95))

    monkeypatch.setattr("fcntl.flock", refuse)
    first, second = Spool(tmp_path), Spool(tmp_path)
    assert first.folder.exists()
    for spool in (first, second):
        spool.remove()
    assert list(tmp_path.iterdir()) == []
