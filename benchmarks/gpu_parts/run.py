"""The parts in order of importance, each in a process of its own within its time, and the file with their figures.

A part gives its figures as they come. What it has when it fails, or when its time is over, is kept.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts.setting import Setting, quick

ENTRY = Path(__file__).resolve().parents[1] / "gpu.py"
RESULT = "gpu.json"
INTERRUPTED = "interrupted"
_LEAST_S = 10.0  # below which no part is begun

Say = Callable[[str], None]


@dataclass(frozen=True)
class Part:
    """A part: what it is called in the results, the function that measures it, and the most seconds it may take."""

    name: str
    function: str
    most_s: float
    title: str


PARTS = (
    Part("frames", "frames:measure", 180, "whole frames of ViT-B"),
    Part("kernel", "kernel:measure", 90, "scoring: error beside float64, time for each window"),
    Part("beside", "beside:measure", 60, "beside the literal pipeline and Transformers"),
    Part("tests", "tests:measure", 150, "tests that need a GPU"),
    Part("official", "beside:measure_official", 150, "beside the bare network under torch.compile, max-autotune"),
    Part("probe", "probe:measure", 60, "pieces of a frame, predicted and measured"),
    Part("others", "frames:measure_others", 60, "whole frames of ViT-S and ViT-L"),
    Part("cameras", "frames:measure_cameras", 60, "six cameras at once"),
    Part("memory", "frames:measure_memory", 60, "memory over 10,000 frames of ViT-S"),
    Part("profile", "profile:measure", 90, "what runs in the steady state"),
    Part("compiled", "tests:measure_compiled", 200, "tests that compile the network"),
    Part("resources", "resources:measure", 900, "what the kernels take, compiled for each architecture"),
)
BY_NAME = {part.name: part for part in PARTS}


def setting_of(device: str, is_quick: bool) -> Setting:
    return quick(device) if is_quick else Setting(device)


def run_here(name: str, setting: Setting, keep: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
    """Run a part in this process: its figures, and what went wrong; ``keep`` is called with what there is of them."""
    module, function = BY_NAME[name].function.split(":")
    start, figures = time.monotonic(), dict[str, Any]()
    outcome: dict[str, Any] = {"state": "measured", "figures": figures}
    try:
        for more in getattr(importlib.import_module(f"benchmarks.gpu_parts.{module}"), function)(setting):
            figures |= more
            if keep is not None:
                keep(outcome)
    except Exception as error:  # a part that fails must not cost the others
        outcome |= {"state": "failed", "error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    return outcome | {"seconds": time.monotonic() - start}


def run_apart(name: str, device: str, is_quick: bool, most_s: float) -> dict[str, Any]:
    """Run a part in another process, which is ended with all that it started when its time is over, or on Ctrl-C."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "part.json"
        command = [sys.executable, str(ENTRY), "--one-part", name, "--into", str(file), "--device", device]
        start = time.monotonic()
        process = subprocess.Popen(
            [*command, *(["--quick"] if is_quick else [])], start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            _, said = process.communicate(timeout=most_s)
            error = f"the process ended with {process.returncode}: {said[-2000:]}"
        except (subprocess.TimeoutExpired, KeyboardInterrupt) as cut:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            error = INTERRUPTED if isinstance(cut, KeyboardInterrupt) else f"not done after {most_s:.0f} s"
        found = dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {"figures": {}}
        if process.returncode == 0:
            return found
        state = "cut short" if found["figures"] else "failed"
        return found | {"state": state, "error": error, "seconds": time.monotonic() - start}


def run(
    folder: Path, names: Sequence[str], device: str, is_quick: bool, minutes: float, apart: bool, say: Say
) -> dict[str, Any]:
    """Run parts and write the file after each; a part for which there is no time left is named as left out."""
    end = time.monotonic() + 60 * minutes
    result: dict[str, Any] = {"machine": _machine(device), "quick": is_quick, "parts": {}}
    for name in names:
        part, left_s = BY_NAME[name], end - time.monotonic()
        say(f"{name}: {part.title}, {max(left_s, 0):.0f} s left")
        if left_s < _LEAST_S:
            result["parts"][name] = {"state": "left out", "error": "no time was left"}
        elif apart:
            result["parts"][name] = run_apart(name, device, is_quick, min(left_s, part.most_s))
        else:
            result["parts"][name] = run_here(name, setting_of(device, is_quick))
        if result["parts"][name].get("error") == INTERRUPTED:
            end = time.monotonic()  # for those that are left
        write(folder / RESULT, result)
    return result


def write(path: Path, value: dict[str, Any]) -> None:
    """Write JSON so that the file is always whole."""
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def _machine(device: str) -> dict[str, str]:
    import torch

    from eomt_ext_core.bench.machine import describe_machine

    described = describe_machine(torch.device(device))
    for name in ("triton", "timm", "transformers"):
        try:
            described[name] = importlib.import_module(name).__version__
        except ImportError:
            described[name] = "not installed"
    return described | {"python": platform.python_version()}
