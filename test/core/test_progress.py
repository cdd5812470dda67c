import io
import sys

import pytest

from eomt_ext_core import progress as module
from eomt_ext_core.progress import ProgressLines, progress, tracked


def test_lines_come_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    lines = ProgressLines("step", 100, clock=lambda: now[0])
    for done in range(1, 8):
        now[0] += 10.0
        lines.update(done, f"loss {1 / done:.2f}")
    assert capsys.readouterr().err.splitlines() == [
        "step: 3 of 100, loss 0.33, 16 min 10 s left",
        "step: 6 of 100, loss 0.17, 15 min 40 s left",
    ]


def test_the_time_left_is_that_of_this_run() -> None:
    now = iter([0.0, 3600.0])
    assert ProgressLines("step", 30, first=20, clock=lambda: next(now)).line(22) == "step: 22 of 30, 4 h 0 min left"
    assert ProgressLines("step", None).line(5, "loss 1") == "step: 5, loss 1"
    assert ProgressLines("step", 30, first=20).line(20) == "step: 20 of 30"


def test_without_a_terminal_there_are_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINE_PERIOD_S", 0.0)
    assert list(tracked("ab", "letters", 2)) == ["a", "b"]
    with progress("frames", 3, shown=False) as update:
        update(1, "")
    with progress("nothing", 0) as update:
        update(0, "")
    assert capsys.readouterr() == ("", "letters: 1 of 2, 0 s left\nletters: 2 of 2, 0 s left\n")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress("frames", 4) as update:
        update(3, "loss 0.5")
    assert "frames, loss 0.5" in terminal.getvalue()
    assert "3/4" in terminal.getvalue()
