"""Packages of PyTorch's AOTInductor: compiled for one kind of device, and run with or without Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eomt_ext_core.backends.device import choose_device
from eomt_ext_core.errors import CheckpointError, ConfigError
from eomt_ext_core.export.program import ScoringProgram, trace
from eomt_ext_core.runtimes.contents import ExportContents


def write_pt2(program: ScoringProgram, contents: ExportContents, path: Path, device: torch.device) -> None:
    """Compile a program into a package, from uint8 windows to a tensor for each of ``contents.outputs``.

    Args:
        program: the network and its scoring; moved to ``device``.
        contents: metadata of the package.
        path: the file, ``.pt2``.
        device: target of the compilation.

    Raises:
        ConfigError: if this machine cannot compile, for example without a C++ compiler.
    """
    from torch._inductor import aoti_compile_and_package
    from torch._inductor.exc import InductorError

    graph = trace(program, contents.batch, device)
    try:
        aoti_compile_and_package(
            graph, package_path=str(path), inductor_configs={"aot_inductor.metadata": contents.to_metadata()}
        )
    except InductorError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"a pt2 file needs a working compiler (g++, for CUDA also Triton): {reason}") from error


class Pt2Package:
    """A loaded package.

    Args:
        path: the file.
        device: to run on, as for :func:`~eomt_ext_core.backends.device.choose_device`; ``auto`` is the device that the
            package is compiled for.

    Attributes:
        contents: metadata of the package.
        device: that it runs on.

    Raises:
        CheckpointError: if the file cannot be loaded, or was not written by ``eomt-ext export``.
        ConfigError: if the device does not exist, or the package is compiled for another one.
    """

    def __init__(self, path: Path, device: str = "auto") -> None:
        from torch._inductor import aoti_load_package

        reader: Any = torch._C._aoti.AOTIModelPackageLoader  # as torch.export does; its types lack the function
        try:
            metadata = reader.load_metadata_from_package(str(path), "model")
            self.contents = ExportContents.of(metadata)
            self.device = _target(path, metadata["AOTI_DEVICE_KEY"], device)
            self._run: Callable[[Tensor], Sequence[Tensor]] = aoti_load_package(
                str(path), device_index=-1 if self.device.index is None else self.device.index
            )
        except (RuntimeError, KeyError, CheckpointError) as error:
            raise CheckpointError(f"{path}: cannot be loaded here: {str(error).splitlines()[0]}") from error

    def __call__(self, crops: Tensor, scores: Sequence[str]) -> Tensor:
        """Score windows (N, 3, h, w) uint8; returns (N, K, h, w) float32, as ``WindowScorer``."""
        results = dict(zip(self.contents.outputs, self._run(crops.to(self.device)), strict=True))
        return torch.cat([results[name] for name in scores], dim=1)


def _target(path: Path, kind: str, device: str) -> torch.device:
    """Return the device for a package that is compiled for a kind, ``cpu`` or ``cuda``."""
    target = choose_device(kind if device == "auto" else device)
    if target.type != kind:
        raise ConfigError(
            f"device must be {kind}, for which {path} is compiled, got {device}: choose auto, or export it again with "
            f"--device {device}"
        )
    return target
