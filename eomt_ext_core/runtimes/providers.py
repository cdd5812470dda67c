"""Choice of onnxruntime's execution provider for an exported file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from eomt_ext_core.errors import ConfigError
from eomt_ext_core.runtimes.compiled_cache import compiled_cache

Providers = Sequence[tuple[str, dict[str, str]]]

CPU = "CPUExecutionProvider"
GPU = TENSORRT, CUDA = "TensorrtExecutionProvider", "CUDAExecutionProvider"  # the faster first

_log = logging.getLogger(__name__)


def choose_providers(device: str, available: Sequence[str], precision: str) -> list[tuple[str, dict[str, str]]]:
    """List the providers that onnxruntime tries, in order, with their options.

    Args:
        device: ``auto`` for the first available of TensorRT, CUDA and the CPU; ``cpu``; ``cuda`` or ``cuda:N``.
        available: providers of this build of onnxruntime.
        precision: of the file's network, ``fp32``, ``fp16`` or ``int8``.

    Raises:
        ConfigError: if a GPU is requested and onnxruntime was built without GPUs.

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
            f"device {device} needs onnxruntime with {' or '.join(GPU)}, this build has {', '.join(available)}: "
            "install onnxruntime-gpu, or choose auto or cpu"
        )
    return on_gpu


def _tensorrt_options(precision: str) -> dict[str, str]:
    options = {"trt_fp16_enable": str(precision == "fp16")}
    if precision == "int8":
        options["trt_int8_enable"] = "True"
    folder = compiled_cache("tensorrt")
    return {**options, "trt_engine_cache_enable": "True", "trt_engine_cache_path": folder} if folder else options


def start_first(providers: Providers, start: Callable[[Providers], Any]) -> Any:
    """Start a session with all providers; drop the first, with a warning, until one starts.

    onnxruntime's own fallback drops the options, and so may use another GPU than the chosen one.

    Args:
        providers: from :func:`choose_providers`.
        start: creates a session with providers.

    Raises:
        ConfigError: if none starts.
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
    """Return the torch name of the device of a provider.

    Args:
        provider: in use.
        device: as for :func:`choose_providers`.

    >>> device_of("CUDAExecutionProvider", "auto"), device_of("CPUExecutionProvider", "auto")
    ('cuda:0', 'cpu')
    """
    return f"cuda:{device.partition(':')[2] or '0'}" if provider in GPU else "cpu"


def check_provider(device: str, wanted: Sequence[str], active: Sequence[str]) -> str:
    """Return the active provider; onnxruntime falls back to the next if one does not start.

    Raises:
        ConfigError: if a GPU is requested and onnxruntime fell back to the CPU.

    >>> check_provider("auto", ["CUDAExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"])
    'CPUExecutionProvider'
    """
    if device.startswith("cuda") and active[0] not in GPU:
        raise ConfigError(
            f"device {device}: {' and '.join(wanted)} did not start, onnxruntime fell back to {active[0]}; see its "
            "message above. Install the CUDA libraries named there, or choose auto or cpu"
        )
    return active[0]
