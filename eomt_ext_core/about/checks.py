"""What this machine has of what the package can use, each with the way out where something is missing."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from typing import Literal

CHECK_GROUP = "eomt_ext.checks"
"""Entry points of this group are functions without arguments that yield :class:`Check`."""

Level = Literal["good", "missing", "error"]
_LEAST = {"torch": (2, 10), "timm": (1, 0, 28)}
_LEAST_PYTHON = (3, 10)
_DRIVER_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    ``level``: ``good``; ``missing``: only what needs it does not work; ``error`` if nothing runs.
    ``found``: what there is. ``way_out``: what to do unless it is good.
    """

    name: str
    level: Level
    found: str
    way_out: str = ""


def all_checks() -> Iterator[Check]:
    """Look at this machine, and let the other packages look at what they need.

    A check that fails itself is an error that names it.
    """
    sources: list[tuple[str, Callable[[], Callable[[], Iterator[Check]]]]] = [("this package", lambda: own_checks)]
    sources += [(entry.name, entry.load) for entry in entry_points(group=CHECK_GROUP)]
    for name, load in sources:
        try:
            yield from load()()
        except Exception as error:  # a doctor reports what is ill, whatever it is
            yield Check(name, "error", f"{type(error).__name__}: {error}", "reinstall it")


def own_checks() -> Iterator[Check]:
    """Check Python, torch, the device that ``auto`` takes, and the extras of the core."""
    python = platform.python_version()
    old = sys.version_info[:2] < _LEAST_PYTHON
    yield Check("Python", "error" if old else "good", python, "use Python 3.10 or later" if old else "")
    for name, least in _LEAST.items():
        yield _version_check(name, least)
    yield from _device_checks()
    yield extra_check("video", ("imageio_ffmpeg",), "writes videos", "bags")
    yield extra_check("export", ("onnx", "onnxruntime", "onnxscript"), "writes and runs exported files", "export")
    yield extra_check("OpenVINO", ("openvino",), "runs exported files faster on CPUs", "openvino")
    yield extra_check("bench plot", ("matplotlib",), "draws the plot of bench", "bench")


def extra_check(name: str, modules: tuple[str, ...], use: str, extra: str) -> Check:
    """Check the modules of an extra."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        return Check(name, "missing", f"no {', '.join(missing)}", f"pip install 'eomt_ext_ros[{extra}]': {use}")
    return Check(name, "good", ", ".join(f"{module} {_version_of(module)}".strip() for module in modules))


def _version_check(name: str, least: tuple[int, ...]) -> Check:
    try:
        found = version(name)
    except PackageNotFoundError:
        return Check(name, "error", "not installed", f"pip install {name}")
    numbers = tuple(int(part) for part in found.split("+")[0].split(".")[: len(least)] if part.isdecimal())
    if numbers < least:
        wanted = ".".join(map(str, least))
        return Check(name, "error", found, f"pip install '{name}>={wanted}': older ones can run code in a checkpoint")
    return Check(name, "good", found)


def _version_of(module: str) -> str:
    try:
        return version(module.replace("_", "-"))
    except PackageNotFoundError:
        return ""


def _device_checks() -> Iterator[Check]:
    """Check the GPU, and name what ``auto`` takes: device, precision, optimisation and kernel of the head."""
    try:
        import torch

        from eomt_ext_core.backends.device import choose_device, choose_optimize, choose_precision, device_name
    except Exception as error:  # a broken torch raises whatever it likes
        yield Check("torch runs", "error", f"{type(error).__name__}: {error}", "reinstall torch")
        return
    driver = _driver()
    if torch.cuda.is_available():
        size_gib = torch.cuda.get_device_properties(0).total_memory / 2**30
        found = f"{torch.cuda.get_device_name(0)}, {size_gib:.0f} GiB, driver {driver}, CUDA {torch.version.cuda}"
        yield Check("GPU", "good", found)
    elif driver is None:
        yield Check("GPU", "missing", "no NVIDIA driver", "the CPU is used; a GPU is many times faster")
    elif torch.version.cuda is None:
        yield Check("GPU", "missing", f"driver {driver}, but torch {torch.__version__} is for CPUs only",
                    "install torch with CUDA: https://pytorch.org/get-started")  # fmt: skip
    else:
        yield Check("GPU", "missing", f"driver {driver}, but torch sees no GPU (CUDA {torch.version.cuda})",
                    "update the driver, check CUDA_VISIBLE_DEVICES, and start a container with --gpus all")  # fmt: skip
    device = choose_device("auto")
    precision, optimize = choose_precision("auto", device), choose_optimize("auto", device)
    cores = len(os.sched_getaffinity(0))
    more = f", {cores} cores" if device.type == "cpu" else ""
    found = f"torch on {device} ({device_name(device)}{more}), {precision}, optimize: {optimize}"
    yield Check("auto takes", "good", found)


def _driver() -> str | None:
    """Give the version of NVIDIA's driver, None without one."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DRIVER_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.split()
    return lines[0] if done.returncode == 0 and lines else None
