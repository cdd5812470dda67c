"""Scoring of windows by OpenVINO: on Intel's and other CPUs, and on Intel's GPUs and NPUs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eomt_ext_core.backends.device import limit_threads
from eomt_ext_core.config import EngineConfig
from eomt_ext_core.errors import CheckpointError, ConfigError, InferenceError
from eomt_ext_core.processor import multiplies_bf16
from eomt_ext_core.runtimes.compiled_cache import compiled_cache
from eomt_ext_core.runtimes.contents import ExportContents
from eomt_ext_core.runtimes.exported_scorer import (
    INPUT,
    WAY_OUT,
    ExportedScorer,
    Signature,
    check_config,
    check_file,
    check_graph,
)
from eomt_ext_core.runtimes.extra import require
from eomt_ext_core.runtimes.onnx_check import check_onnx

_ELEMENT_TYPES = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_WINDOWS = 1  # at a time, if the file takes any number: the graph is compiled for one size, as NPUs need it
_OUT_OF_MEMORY = re.compile(r"out of memory|bad_alloc|failed to allocate|exceed.*memory", re.IGNORECASE)


class OpenVinoWindowScorer(ExportedScorer):
    """A file in OpenVINO; created by :meth:`load`.

    Args:
        compiled: OpenVINO's compiled model.
        contents: metadata of the file.
        facts: on device, precision, threads and cache, for :meth:`describe`.
        precision: of the network.
    """

    def __init__(self, compiled: Any, contents: ExportContents, facts: Mapping[str, str], precision: str) -> None:
        super().__init__(contents, precision, _WINDOWS)
        self._request = compiled.create_infer_request()
        self._facts = dict(facts)

    @classmethod
    def load(cls, path: str | Path, config: EngineConfig | None = None) -> OpenVinoWindowScorer:
        """Open a file written by ``eomt-ext export``.

        Args:
            path: the file, ``.onnx``.
            config: its ``device`` is ``cpu``, OpenVINO's ``GPU``, ``GPU.N`` or ``NPU``, or ``auto``; its ``precision``
                is that of the arithmetic, whatever that of the file.

        Raises:
            CheckpointError: if the file is missing, damaged, not an export, or of another version.
            ConfigError: if the device does not exist or does not compile the file, ``config`` contradicts the file, or
                OpenVINO is not installed.
        """
        config = config or EngineConfig()
        openvino = require("openvino", "openvino")
        check_file(Path(path))
        core = openvino.Core()
        try:
            check_onnx(Path(path))
            model = core.read_model(str(path))
            has_metadata = "framework" in model.rt_info  # OpenVINO's map has no get()
            metadata = model.rt_info["framework"] if has_metadata else {}
            contents = ExportContents.of({name: value.astype(str) for name, value in metadata.items()})
            check_graph(contents, _signature(model.inputs), _signature(model.outputs), "u8", "f32")
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}{WAY_OUT}") from error
        except RuntimeError as error:
            raise CheckpointError(f"{path}: OpenVINO cannot read it: {_reason(error)}{WAY_OUT}") from error
        check_config(config, contents, "openvino")
        device = choose_openvino_device(config.device, core.available_devices)
        arithmetic = choose_arithmetic(config.precision, contents.precision, device)
        model.reshape({INPUT: [contents.batch or _WINDOWS, 3, *contents.crop_hw]})
        properties = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _ELEMENT_TYPES[arithmetic],
            **({"CACHE_DIR": folder} if (folder := compiled_cache("openvino")) else {}),
        }
        if device == "CPU":
            limit_threads()
            properties["INFERENCE_NUM_THREADS"] = str(torch.get_num_threads())
        try:
            compiled = core.compile_model(model, device, properties)
        except RuntimeError as error:
            raise ConfigError(
                f"device {device} cannot run {path} in {arithmetic}: {_reason(error)}. Choose another device or "
                "precision, such as cpu and fp32"
            ) from error
        facts = {
            "device": device.lower() if device == "CPU" else device,
            "device_name": str(core.get_property(device, "FULL_DEVICE_NAME")).strip(),
            "arithmetic": arithmetic,
            "cache": folder or "none",
        }
        if device == "CPU":
            facts["threads"] = str(compiled.get_property("INFERENCE_NUM_THREADS"))
        return cls(compiled, contents, facts, "int8" if contents.precision == "int8" else arithmetic)

    def _run(self, crops: NDArray[np.uint8], names: list[str]) -> Sequence[NDArray[np.float32]]:
        try:
            self._request.infer({INPUT: crops}, share_inputs=True)
            return [self._request.get_tensor(name).data.copy() for name in names]
        except RuntimeError as error:
            where = f"OpenVINO ({self._facts['device']})"
            if _OUT_OF_MEMORY.search(str(error)):
                raise MemoryError(f"{where}: {_reason(error)}") from error
            raise InferenceError(f"{where} failed: {_reason(error)}") from error

    def describe(self) -> dict[str, str]:
        """Describe the backend: see the protocol."""
        return {"backend": "openvino", **self._facts, **super().describe()}


def choose_openvino_device(name: str, available: Sequence[str]) -> str:
    """Return OpenVINO's name of a device.

    Args:
        name: ``cpu``, ``GPU``, ``GPU.N`` or ``NPU``; ``auto`` is the first GPU, or the CPU if there is none.
        available: OpenVINO's list.

    Raises:
        ConfigError: if there is no such device.

    >>> choose_openvino_device("auto", ["CPU", "GPU.0", "GPU.1", "NPU"])
    'GPU.0'
    """
    if name == "auto":
        return next((device for device in available if device.startswith("GPU")), "CPU")
    wanted = "CPU" if name == "cpu" else name
    if wanted not in available and not (wanted == "GPU" and "GPU.0" in available):  # OpenVINO's alias of the first
        raise ConfigError(
            f"device {name} does not exist: OpenVINO sees {', '.join(available)}; install Intel's driver of the "
            "device, or choose auto or cpu"
        )
    return wanted


def choose_arithmetic(precision: str, of_file: str, device: str) -> str:
    """Return ``fp32``, ``bf16`` or ``fp16``, the arithmetic of everything in a file that is not int8.

    Args:
        precision: ``auto`` is bf16 on a CPU that multiplies it, else fp32; fp16 on a GPU or NPU.
        of_file: precision of the file.
        device: OpenVINO's name.

    Raises:
        ConfigError: if the device does not compute in it.

    >>> choose_arithmetic("auto", "int8", "GPU"), choose_arithmetic("fp32", "fp16", "CPU")
    ('fp16', 'fp32')
    """
    if precision == "auto":
        if device != "CPU":
            return "fp16"
        return "bf16" if multiplies_bf16() else "fp32"
    if device == "CPU" and precision == "fp16":
        raise ConfigError(f"precision on OpenVINO's CPU must be auto, fp32 or bf16, got fp16 for a file in {of_file}")
    if device != "CPU" and precision == "bf16":
        raise ConfigError(f"precision on OpenVINO's {device} must be auto, fp32 or fp16, got bf16")
    return precision


def _signature(ports: Sequence[Any]) -> Signature:
    return {
        port.any_name: (
            port.element_type.to_string(),
            [None if side.is_dynamic else side.get_length() for side in port.partial_shape],
        )
        for port in ports
    }


def _reason(error: Exception) -> str:
    """Return the last line of OpenVINO's messages, which begin with places in its sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
