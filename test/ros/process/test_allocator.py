"""Memory of freed images is reused."""

import resource
import subprocess
import sys

import pytest

# The images that an answer with every output holds at a time, in the thread that answers.
ONE_THREAD = """
import resource, sys, threading
import numpy as np
from eomt_ext_ros.process.allocator import keep_freed_images
if sys.argv[1] == "kept":
    assert keep_freed_images()
def answer():
    held = [np.ones((1080, 1920, channels), kind) for channels, kind in [(1, "f4"), (1, "f4"), (3, "u1"), (3, "u1"), (3, "f4")]]
def count():
    for _ in range(3):
        answer()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        answer()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 20)
thread = threading.Thread(target=count)
thread.start()
thread.join()
"""  # noqa: E501

# Threads that live at the same time and answer one after the other, as those of a node's life do.
MANY_THREADS = """
import threading
from pathlib import Path
import numpy as np
from eomt_ext_ros.process.allocator import keep_freed_images
assert keep_freed_images()
everyone, turn = threading.Barrier(6), threading.Lock()
def answer():
    everyone.wait()
    with turn:
        held = [np.ones((1080, 1920, 3), "u1") for _ in range(4)]
        del held
    everyone.wait()
def anonymous_kib():
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("RssAnon")).split()[1])
before = anonymous_kib()
threads = [threading.Thread(target=answer) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(anonymous_kib() - before)
"""


def number_printed_by(program, *arguments):
    done = subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks glibc")
def test_images_are_not_mapped_anew():
    pages_of_a_picture = 1080 * 1920 * 3 // resource.getpagesize()
    assert number_printed_by(ONE_THREAD, "kept") < 50
    assert pages_of_a_picture < number_printed_by(ONE_THREAD, "as it is")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks glibc")
def test_what_a_thread_freed_serves_the_next():
    kib_of_an_answer = 4 * 1080 * 1920 * 3 / 1024
    assert 0.9 * kib_of_an_answer < number_printed_by(MANY_THREADS) < 1.5 * kib_of_an_answer
