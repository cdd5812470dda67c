"""Packages of PyTorch's AOTInductor: compiled for one kind of device, and run with or without Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

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
        device: target of its compilation.

    Attributes:
        contents: metadata of the package.

    Raises:
        CheckpointError: if the file cannot be loaded, or was not written by ``eomt-ext export``.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        from torch._inductor import aoti_load_package

        try:
            self._run: Callable[[Tensor], Sequence[Tensor]] = aoti_load_package(
                str(path), device_index=-1 if device.index is None else device.index
            )
            self.contents = ExportContents.of(self._run.get_metadata())
        except (RuntimeError, CheckpointError) as error:
            raise CheckpointError(f"{path}: cannot be loaded here: {str(error).splitlines()[0]}") from error
        self._device = device

    def __call__(self, crops: Tensor, scores: Sequence[str]) -> Tensor:
        """Score windows (N, 3, h, w) uint8; returns (N, K, h, w) float32, as ``WindowScorer``."""
        results = dict(zip(self.contents.outputs, self._run(crops.to(self._device)), strict=True))
        return torch.cat([results[name] for name in scores], dim=1)
