"""Memory of freed images is reused."""

import resource
import subprocess
import sys

import pytest

# The images that an answer with every output holds at a time, in the thread that answers.
PROGRAM = """
import resource, sys, threading
import numpy as np
from eomt_ext_ros.allocator import keep_freed_images
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


def page_faults_of_an_answer(how):
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks glibc")
def test_images_are_not_mapped_anew():
    pages_of_a_picture = 1080 * 1920 * 3 // resource.getpagesize()
    assert page_faults_of_an_answer("kept") < 50 < pages_of_a_picture < page_faults_of_an_answer("as it is")
