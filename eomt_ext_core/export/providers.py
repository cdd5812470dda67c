"""Which of onnxruntime's execution providers runs an exported file."""

from __future__ import annotations

from collections.abc import Sequence

from eomt_ext_core.errors import ConfigError

CPU = "CPUExecutionProvider"
GPU = ("TensorrtExecutionProvider", "CUDAExecutionProvider")  # the faster first


def choose_providers(device: str, available: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Providers in the order in which onnxruntime is to try them, with their options.

    Args:
        device: ``auto`` takes TensorRT, CUDA or the CPU, the first that is there; ``cpu``; ``cuda`` or ``cuda:N``.
        available: what onnxruntime was built with.

    Raises:
        ConfigError: where a GPU is asked for and onnxruntime was built for none.

    >>> choose_providers("cuda:1", ["CUDAExecutionProvider", "CPUExecutionProvider"])
    [('CUDAExecutionProvider', {'device_id': '1'})]
    """
    index = device.partition(":")[2] or "0"
    on_gpu = [(name, {"device_id": index}) for name in GPU if name in available]
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
