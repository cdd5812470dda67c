"""Choice of device and precision."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from eomt_ext_core.errors import ConfigError
from eomt_ext_core.kernels.choice import BF16_CAPABILITY
from eomt_ext_core.processor import cpu_info, multiplies_bf16

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """Return the device with a name; ``auto`` is the first GPU, or the CPU if there is none.

    Raises:
        ConfigError: if there is no such device, or the name has another form.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}") from error
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise ConfigError(f"device {name} does not exist: torch sees {count} CUDA devices; choose auto or cpu")
        return torch.device("cuda", device.index or 0)
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """Return ``fp32``, ``bf16`` or ``fp16``; ``auto`` is bf16 if the hardware supports it.

    Otherwise it is fp16 on a GPU and fp32 on a CPU.
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= BF16_CAPABILITY else "fp16"
    return "bf16" if multiplies_bf16() else "fp32"


def choose_optimize(name: str, device: torch.device) -> str:
    """Return ``none``, ``compile`` or ``graph``; ``auto`` is graph on a GPU and none on a CPU.

    Raises:
        ConfigError: if graphs are asked for without a GPU.
    """
    if name == "auto":
        return "graph" if device.type == "cuda" else "none"
    if name == "graph" and device.type != "cuda":
        raise ConfigError(f"optimize graph needs a CUDA device, got {device}: choose auto, none or compile")
    return name


def limit_threads(quota_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> None:
    """Lower torch's CPU threads to the CPU quota of the container; never raise them.

    PyTorch counts all cores, and threads beyond the quota are throttled most of the time.

    Args:
        quota_file: of Linux's control groups, version 2: microseconds in a period, or ``max``, and the period.
    """
    try:
        granted, period = quota_file.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return
    if granted != "max":
        torch.set_num_threads(min(torch.get_num_threads(), max(1, round(int(granted) / int(period)))))


def device_name(device: torch.device) -> str:
    """Return the product name of a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return cpu_info("model name") or platform.processor() or platform.machine()
