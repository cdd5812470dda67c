"""Which of onnxruntime's execution providers runs an exported file."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from eomt_ext_core.errors import ConfigError

Providers = Sequence[tuple[str, dict[str, str]]]

CPU = "CPUExecutionProvider"
GPU = TENSORRT, CUDA = "TensorrtExecutionProvider", "CUDAExecutionProvider"  # the faster first

_log = logging.getLogger(__name__)


def choose_providers(device: str, available: Sequence[str], precision: str) -> list[tuple[str, dict[str, str]]]:
    """Providers in the order in which onnxruntime is to try them, with their options.

    Args:
        device: ``auto`` takes TensorRT, CUDA or the CPU, the first that is there; ``cpu``; ``cuda`` or ``cuda:N``.
        available: what onnxruntime was built with.
        precision: of the file's network, ``fp32`` or ``fp16``.

    Raises:
        ConfigError: where a GPU is asked for and onnxruntime was built for none.

    >>> choose_providers("cuda:1", ["CUDAExecutionProvider", "CPUExecutionProvider"], "fp32")
    [('CUDAExecutionProvider', {'device_id': '1'})]
    """
    index = device.partition(":")[2] or "0"
    on_gpu = [(name, {"device_id": index}) for name in GPU if name in available]
    if TENSORRT in available and device != "cpu":
        on_gpu[0][1].update(_tensorrt_options(precision))
    if device == "cpu":
        return [(CPU, {})]
    if device == "auto":
        return [*on_gpu, (CPU, {})]
    if not on_gpu:
        raise ConfigError(
            f"device {device} needs onnxruntime with {' or '.join(GPU)}, this one has {', '.join(available)}: "
            "install onnxruntime-gpu, or choose auto or cpu"
        )
    return on_gpu


def _tensorrt_options(precision: str) -> dict[str, str]:
    """It builds an engine of the file, which takes minutes; kept in the user's cache, the next start takes seconds."""
    options = {"trt_fp16_enable": str(precision == "fp16")}
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "eomt_ext" / "tensorrt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _log.warning("TensorRT builds its engine at every start, as %s cannot be written: %s", folder, error)
        return options
    return {**options, "trt_engine_cache_enable": "True", "trt_engine_cache_path": str(folder)}


def start_first(providers: Providers, start: Callable[[Providers], Any]) -> Any:
    """Start with all providers, else without those that fail, the first of them first; it is logged.

    onnxruntime would fall back by itself, but without the options, and so to another GPU than the one chosen.

    Args:
        providers: from :func:`choose_providers`.
        start: makes a session with what it is given.

    Raises:
        ConfigError: where none starts.
    """
    for index, (name, _) in enumerate(providers):
        try:
            return start(providers[index:])
        except Exception as error:  # onnxruntime's exceptions share no base
            reason = str(error).splitlines()[0]
        following = [other for other, _ in providers[index + 1 :]]
        if following:
            _log.warning("%s did not start: %s; trying %s", name, reason, following[0])
    raise ConfigError(f"{name} did not start: {reason}. Choose another device, such as cpu")


def device_of(provider: str, device: str) -> str:
    """Where a provider computes, as torch names it.

    Args:
        provider: that is in use.
        device: as :func:`choose_providers` took it.

    >>> device_of("CUDAExecutionProvider", "auto"), device_of("CPUExecutionProvider", "auto")
    ('cuda:0', 'cpu')
    """
    return f"cuda:{device.partition(':')[2] or '0'}" if provider in GPU else "cpu"


def check_provider(device: str, wanted: Sequence[str], active: Sequence[str]) -> str:
    """The provider that is in use; onnxruntime falls back by itself where one does not start.

    Raises:
        ConfigError: where a GPU is asked for and it fell back to the CPU.

    >>> check_provider("auto", ["CUDAExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"])
    'CPUExecutionProvider'
    """
    if device.startswith("cuda") and active[0] not in GPU:
        raise ConfigError(
            f"device {device}: {' and '.join(wanted)} did not start, onnxruntime fell back to {active[0]}; its message "
            "above says why. Install the CUDA libraries that it asks for, or choose auto or cpu"
        )
    return active[0]
