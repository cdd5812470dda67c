import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def odd_name() -> str:
    """The stem of a file name that is no UTF-8, as Python has it."""
    return os.fsdecode(b"caf\xe9")


@pytest.fixture
def ffmpeg(tmp_path: Path) -> Callable[..., Path]:
    """Run ffmpeg with arguments that end in a file's name, and give the path of that file."""
    program = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()

    def run(*arguments: str) -> Path:
        subprocess.run([program, "-nostdin", "-v", "error", *arguments], cwd=tmp_path, check=True)
        return tmp_path / arguments[-1]

    return run
