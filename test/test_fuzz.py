"""That the fuzz program sees what it is to see; its cases themselves are run by ``make fuzz``."""

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def fuzz():
    sys.path.insert(0, str(ROOT))
    yield importlib.import_module("benchmarks.fuzz.run")
    sys.path.remove(str(ROOT))


@pytest.fixture(scope="module")
def run(fuzz, tmp_path_factory):
    """Judge a piece of Python that runs in a worker, with limits of its own."""
    folder = tmp_path_factory.mktemp("fuzz")
    file = folder / "file"
    file.touch()
    child = None

    def run_one(program, expect=None, most_seconds=fuzz.MOST_SECONDS):
        nonlocal child
        if child is None or not child.is_alive():
            child = fuzz.Child((), ("pickle.find_class",), folder)
        case = fuzz.Case("a case", file, ("builtins:exec", program), expect)
        return fuzz.judge(case, child.run(case.command, most_seconds, fuzz.MOST_BYTES))

    yield run_one
    if child is not None:
        child.close()


@pytest.mark.parametrize(
    ("program", "expect"),
    [
        ("pass", "success"),
        ("from eomt_ext_core.errors import CheckpointError; raise CheckpointError('damaged')", "error"),
        ("raise SystemExit('damaged')", "error"),
        ("print('damaged'); raise SystemExit(2)", "error"),
        ("import socket; a, b = socket.socketpair(); a.send(b'1')", "success"),
    ],
)
def test_what_keeps_the_rules_breaks_none(run, program, expect):
    assert run(program, expect) == ()


@pytest.mark.parametrize(
    ("program", "broken"),
    [
        ("raise KeyError('x')", "traceback"),
        ("import traceback, sys; traceback.print_stack(); print('Traceback (most recent call last)')", "traceback"),
        ("import os; os.abort()", "crash: SIGABRT"),
        ("import os; os._exit(0)", "ended the process with code 0"),
        ("import socket; socket.create_connection(('192.0.2.1', 80), 1)", "forbidden: socket.getaddrinfo"),
        ("import socket; socket.socket().connect_ex(('192.0.2.1', 80))", "forbidden: socket.connect"),
        ("import pickle; pickle.loads(b'cbuiltins\\nlen\\n.')", "forbidden: pickle.find_class"),
        ("raise SystemExit(3)", "exit code 3 without a word"),
    ],
)
def test_what_breaks_a_rule_is_named(run, program, broken):
    assert any(rule.startswith(broken) for rule in run(program))


def test_unexpected_exit_code_is_named(run):
    assert run("pass", "error") == ("exit code 0 where error is expected",)
    assert run("raise SystemExit('damaged')", "success") == ("exit code 1 where success is expected",)


def test_memory_is_measured_at_its_peak(run):
    assert any("memory: 1" in rule for rule in run("x = b'1' * (1100 << 20); del x"))


def test_timeout_ends_only_its_case(run):
    assert run("import time; time.sleep(60)", most_seconds=0.5)[0].startswith("ended after")
    assert run("pass", "success") == ()


def test_too_large_file_is_refused(fuzz, tmp_path):
    large = tmp_path / "large"
    large.write_bytes(bytes(fuzz.LARGEST_BYTES))
    case = fuzz.Case("large", large, ("builtins:exec", "pass"))
    with pytest.raises(ValueError, match="large: must be new and below"):
        fuzz.run_cases(None, [case], tmp_path, lambda text: None)


def test_intact_bags_are_replayed(fuzz, tmp_path):
    """Or the program would see nothing but the failures of its own stand-in for the engine."""
    pytest.importorskip("rosbags")
    bags = importlib.import_module("benchmarks.fuzz.bags")
    for number, case in enumerate(bags.cases(0, 3, tmp_path / "files")):
        assert case.expect == "success", case.name
        assert bags.replay(case.command[1], str(tmp_path / f"out{number}")) == 0
