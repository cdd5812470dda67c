"""Many bags: the same results to the last digit with any workers."""

import multiprocessing
import os
import signal
import threading
import time

import pytest

START_NS = 1_700_000_000_000_000_000


@pytest.fixture
def bags(drive):
    return [drive(name=name, frames=3 + n, labels="raw", start_ns=START_NS + n) for n, name in enumerate("ab")]


def outcome_of(replay, bags, out, **options):
    outcome = replay(*bags, out=out, label_topic="/camera/labels", threads=1, scores="head,energy", **options)
    assert outcome.status == 0, outcome.text
    return outcome.folder


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes().partition(b'"record": {')[0]  # which has date and command
        for path in folder.rglob("*")
        if path.is_file() and path.name in ("metrics.json", "annotated.mcap", "metadata.yaml")
    }


def test_processes_and_serial_replay_agree(bags, replay):
    serial = files(outcome_of(replay, bags, "serial"))
    assert set(serial) == {"metrics.json"} | {
        f"{name}/annotated/{file}" for name in "ab" for file in ("annotated.mcap", "metadata.yaml")
    }
    assert files(outcome_of(replay, bags, "workers", workers=2)) == serial


def writes_a_bag(pid):
    """Whether a process has a file of an annotated bag open: it is at work, neither starting nor idle."""
    try:
        opened = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")]
    except OSError:  # it, or a file of it, is gone
        return False
    return any(".annotated.part-" in name for name in opened)


def test_crashed_worker_costs_one_bag(bags, drive, replay):
    def crash_one():
        while not (at_work := [child.pid for child in multiprocessing.active_children() if writes_a_bag(child.pid)]):
            time.sleep(0.002)
        os.kill(at_work[0], signal.SIGSEGV)

    crashing = threading.Thread(target=crash_one)
    crashing.start()
    outcome = replay(*bags, drive(name="c", frames=3), out="crash", workers=2, threads=1)
    crashing.join()
    assert outcome.status == 3
    assert outcome.text.count("a worker process crashed (SIGSEGV)") == 1
    assert "frames processed" in outcome.text


def test_bags_of_the_same_name_are_kept_apart(drive, replay, tmp_path):
    first, second = drive(name="one/drive", frames=2), drive(name="two/drive", frames=2)
    outcome = replay(first, second)

    assert outcome.status == 0, outcome.text
    assert {path.name for path in outcome.folder.iterdir() if path.is_dir()} == {"drive", "drive_2"}
