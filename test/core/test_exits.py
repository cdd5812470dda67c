"""Every way in which a command may end, told in a sentence and by its status."""

import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors import safe_open

from eomt_ext_core.errors import ConfigError
from eomt_ext_core.exits import DEBUG_VARIABLE, describe_exit, exit_on_error

ROOT = Path(__file__).resolve().parents[2]


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


def make_folder_of_a_file(folder: Path) -> None:
    (folder / "file").touch()
    (folder / "file").mkdir()


def fail(error: Exception) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        raise error

    return act


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (fail(ConfigError("a must be b, got c")), "a must be b, got c"),
        (make_folder_of_a_file, ".*/file: File exists"),
        (lambda folder: (folder / ("n" * 300)).touch(), ".*/n{300}: File name too long"),
        (lambda folder: (folder / "a").rename(folder / "b"), ".*/a and .*/b: No such file or directory"),
        (fail(OSError(28, "No space left on device")), r"No space left on device \(test_exits\.py, line .*"),
        (fail(TimeoutError("nobody listens")), "nobody listens"),
        (fail(MemoryError()), "out of memory: use smaller images, a smaller model or fewer workers"),
        (
            fail(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")),
            r"out of memory: .* \(DefaultCPUAllocator: can't allocate memory.*",
        ),
        (fail(OutOfMemoryError("CUDA out of memory.\nTried it.")), r"out of GPU memory: CUDA out of .* it\."),
        (lambda folder: cv2.resize(np.zeros((0, 0)), (1, 1)), r"unexpected cv2\.error: OpenCV.*=1 shows the .*\)"),
        (
            lambda folder: safe_open(ROOT / "setup.py", framework="pt"),
            r"unexpected safetensors\w*\.SafetensorError: Error while deserializing.*\)",
        ),
        (fail(KeyError("a")), rf"unexpected KeyError: 'a' \(test_exits\.py, line \d+; {DEBUG_VARIABLE}=1 shows .*\)"),
        (fail(ValueError("x" * 1000)), "unexpected ValueError: x{400}… .*"),
    ],
)  # fmt: skip
def test_an_error_is_one_sentence_and_status_1(
    act: Callable[[Path], object], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end, exit_on_error("tool"):
        act(tmp_path)
    assert end.value.code == 1
    assert re.fullmatch(f"tool: {said}\n", capsys.readouterr().err)


def test_the_traceback_is_there_for_who_asks_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(DEBUG_VARIABLE, "1")
    with pytest.raises(SystemExit), exit_on_error("tool"):
        raise KeyError("a")
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert "tool: unexpected KeyError: 'a'" in said


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def interrupt_as_lightning_and_typer_end_it() -> None:
    try:
        interrupt()
    except KeyboardInterrupt:
        sys.exit(1)


@pytest.mark.parametrize("act", [interrupt, interrupt_as_lightning_and_typer_end_it])
def test_an_interruption_is_status_130(act: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, exit_on_error("entry"), exit_on_error("tool"):
        act()
    assert (end.value.code, capsys.readouterr().err) == (130, "tool: interrupted\n")


@pytest.mark.parametrize("code", [0, None, 2, 3])
def test_a_status_that_was_chosen_is_kept(code: int | None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, exit_on_error("tool"):
        sys.exit(code)
    assert (end.value.code, capsys.readouterr().err) == (code, "")


WRITE = "from eomt_ext_core.exits import exit_on_error\nwith exit_on_error('tool'): print('x' * {count})"


def written_to(output: int, count: int, unbuffered: str = "") -> tuple[int, str]:
    """Status and standard error of a command that prints so many characters to a file."""
    command = [sys.executable, "-c", WRITE.format(count=count)]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    return done.returncode, done.stderr


def test_a_full_disk_behind_standard_output_is_told() -> None:
    with open("/dev/full", "w") as full:
        assert written_to(full.fileno(), 5) == (1, "tool: standard output: No space left on device\n")


@pytest.mark.parametrize("count", [5, 100_000])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_ends_it_without_a_word(count: int, unbuffered: str) -> None:
    read, write = os.pipe()
    os.close(read)
    assert written_to(write, count, unbuffered) == (1, "")
    os.close(write)


def test_another_pipe_that_breaks_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    with pytest.raises(SystemExit), exit_on_error("tool"):
        os.write(write, b"x")
    os.close(write)
    assert capsys.readouterr().err.startswith("tool: Broken pipe (test_exits.py, line ")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (-int(signal.SIGTERM), "was ended by SIGTERM"),
        (-int(signal.SIGABRT), "crashed (SIGABRT)"),
        (-200, "was ended by signal 200"),
        (0, "ended with status 0"),
    ],
)
def test_exit_of_a_process_is_described(code: int, said: str) -> None:
    assert describe_exit(code) == said


ENTRIES = [
    ("eomt_ext_core.entry", "main", "eomt_ext_core.cli", "eomt-ext"),
    ("eomt_ext_ros.entry", "anomaly_node", "eomt_ext_ros.node", "anomaly_node"),
    ("eomt_ext_ros.entry", "replay", "eomt_ext_ros.replay.command", "replay"),
    ("eomt_ext_training.entry", "train", "eomt_ext_training.head.cli", "eomt-ext-train"),
    ("eomt_ext_training.entry", "train_network", "eomt_ext_training.network.cli", "eomt-ext-train-network"),
]
INTERRUPTED_IMPORT = """
import importlib, importlib.abc, signal, sys
class Interrupt(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {heavy!r}:
            signal.raise_signal(signal.SIGINT)
entry = importlib.import_module({module!r})
assert not {{"numpy", "torch", "typer", "rclpy"}} & set(sys.modules), "an entry must load at once"
sys.meta_path.insert(0, Interrupt())
entry.{function}()
"""


@pytest.mark.parametrize(("module", "function", "heavy", "program"), ENTRIES)
def test_an_executable_may_be_interrupted_while_it_imports(
    module: str, function: str, heavy: str, program: str
) -> None:
    code = INTERRUPTED_IMPORT.format(module=module, function=function, heavy=heavy)
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "training")])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | paths)
    assert (done.returncode, done.stderr) == (130, f"{program}: interrupted\n")


def test_every_executable_is_one_of_these() -> None:
    declared = (ROOT / "setup.cfg").read_text() + (ROOT / "training" / "pyproject.toml").read_text()
    found = set(re.findall(r"""^\s*[\w-]+ = "?([\w.]+):(\w+)"?$""", declared, re.MULTILINE))
    # Of eomt-ext, which runs them; of learn-normal, which opens bags with it; and of doctor.
    commands = {pair for pair in found if "command" in pair[0] or pair[1] in ("bag_drive", "checks")}
    assert found - commands == {(module, function) for module, function, *_ in ENTRIES}


@pytest.mark.parametrize(("debug", "shown"), [(False, False), (True, True)])
def test_deprecations_of_others_are_for_developers(monkeypatch, debug, shown):
    monkeypatch.delenv("EOMT_EXT_DEBUG", raising=False)
    monkeypatch.setattr("sys.warnoptions", [])
    if debug:
        monkeypatch.setenv("EOMT_EXT_DEBUG", "1")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with exit_on_error("x"):
            warnings.warn("use something else", FutureWarning, stacklevel=1)
    assert bool(caught) is shown
