"""Packages of PyTorch's AOTInductor: compiled for one kind of device, run without Python or from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from eomt_ext_core.errors import CheckpointError, ConfigError
from eomt_ext_core.export.contents import ExportContents
from eomt_ext_core.export.program import ScoringProgram, trace


def write_pt2(program: ScoringProgram, contents: ExportContents, path: Path, device: torch.device) -> None:
    """Compile a program into a package: uint8 windows in, a tensor for each of ``contents.outputs`` out.

    Args:
        program: the network and its scoring; moved to ``device``.
        contents: what the package is to say of itself.
        path: the file, ending in ``.pt2``.
        device: what it is compiled for.

    Raises:
        ConfigError: where this machine cannot compile, such as for want of a C++ compiler.
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
        raise ConfigError(f"a pt2 package needs a compiler that works (g++, for CUDA also Triton): {reason}") from error


class Pt2Package:
    """A package, loaded.

    Args:
        path: the file.
        device: what it was compiled for.

    Attributes:
        contents: what it says of itself.

    Raises:
        CheckpointError: where the file cannot be loaded, or is not one of ours.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        from torch._inductor import aoti_load_package

        try:
            self._run: Callable[[Tensor], Sequence[Tensor]] = aoti_load_package(
                str(path), device_index=-1 if device.index is None else device.index
            )
            self.contents = ExportContents.of(self._run.get_metadata())
        except (RuntimeError, CheckpointError) as error:
            raise CheckpointError(f"{path}: not a package that runs here: {str(error).splitlines()[0]}") from error
        self._device = device

    def __call__(self, crops: Tensor, scores: Sequence[str]) -> Tensor:
        """(N, 3, h, w) uint8 to (N, K, h, w) float32, as ``WindowScorer``."""
        results = dict(zip(self.contents.outputs, self._run(crops.to(self._device)), strict=True))
        return torch.cat([results[name] for name in scores], dim=1)
