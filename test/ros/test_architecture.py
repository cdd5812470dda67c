"""The page about the architecture says what the code is."""

import importlib.util
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "eomt_ext_ros"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
MOST_FILES, MOST_LINES = 12, 300
MOST_TO_ENGINE, MOST_TO_PUBLISH = 8, 6


@pytest.fixture(scope="module")
def rooms():
    """The program that draws the rooms."""
    spec = importlib.util.spec_from_file_location("rooms_under_test", ROOT / "docs" / "rooms.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_drawing_is_that_of_the_code(rooms):
    assert rooms.BEGIN + rooms.drawing() + rooms.END in PAGE, "run: python docs/rooms.py"


def test_no_arrow_goes_up_and_none_round(rooms):
    graph = rooms.imports()
    floor = rooms.floors(graph)
    assert graph["node"] > {"pipeline"}
    assert [(room, other) for room in graph for other in graph[room] if floor[other] >= floor[room]] == []


def test_rooms_and_files_are_small(rooms):
    files = sorted(PACKAGE.rglob("*.py"))
    crowded = Counter(path.parent for path in files)
    assert {folder.name: count for folder, count in crowded.items() if count > MOST_FILES} == {}
    assert {path.name: rooms.lines_of_code(path) for path in files if rooms.lines_of_code(path) > MOST_LINES} == {}


def test_lines_of_code_are_neither_blank_nor_comments_nor_docstrings(rooms, tmp_path):
    path = tmp_path / "module.py"
    path.write_text('"""One.\n\nTwo."""\n\n# comment\ndef f():\n    """Three."""\n    return """\n# text\n"""\n')
    assert rooms.lines_of_code(path) == 4 - 1, "what begins like a comment counts as one, also within a text"


def stack():
    """The node's own functions that are being called in this thread, the outermost first."""
    frames, frame = [], sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            frames.insert(0, (str(path.relative_to(ROOT)), frame.f_code.co_name))
        frame = frame.f_back
    return frames


def test_the_walk_of_an_image_is_that_of_the_code(stand_in, image_msg):
    walk = PAGE.partition("## The path of a frame")[2].partition("What the shape is for")[0]
    first, second = (
        [(path, name) for name, path in re.findall(r"^\d\. (?:-> )?`(\w+)`, `([\w/.]+)`", part, re.MULTILINE)]
        for part in walk.split("And from the return")
    )
    rig = stand_in()
    rig.start("probability")
    seen = {}

    def noting(owner, name):
        function = getattr(owner, name)
        setattr(owner, name, lambda *args, **kwargs: seen.setdefault(name, stack()) and function(*args, **kwargs))

    noting(rig.node.session._thread._queue, "put")
    noting(rig.engine, "submit")
    noting(rig.engine, "collect")
    noting(rig.cameras[""].publishers["probability"], "publish")
    rig.answer(image_msg(1))
    queue = ("eomt_ext_ros/workers/camera_queue.py", "put")
    assert [*seen["put"], queue, *seen["submit"]] == first
    *calls, last = seen["publish"]
    assert seen["collect"][: len(calls)] == calls, "those that led to the engine and have not returned"
    assert [*reversed(seen["collect"][len(calls) :]), calls[-1], last] == second
    assert len(first) <= MOST_TO_ENGINE
    assert len(second) <= MOST_TO_PUBLISH
