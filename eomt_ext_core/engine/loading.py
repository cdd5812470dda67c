"""From a file, or a model, to what scores windows as a configuration says."""

from __future__ import annotations

from pathlib import Path

from eomt_ext_core.backends.device import choose_device, choose_optimize, choose_precision
from eomt_ext_core.backends.torch_scorer import TorchWindowScorer
from eomt_ext_core.backends.window_scorer import WindowScorer
from eomt_ext_core.config import EngineConfig
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.files import sha256_of
from eomt_ext_core.model.checkpoint import load_model, resolve_source
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.normality.normal_file import load_normality
from eomt_ext_core.normality.normality import Normality


def load_scorer(
    source: str | Path,
    config: EngineConfig,
    head: str | Path | None,
    *,
    normality: str | Path | None = None,
    download: bool = True,
) -> tuple[WindowScorer, dict[str, str]]:
    """Make the scorer of ``config.backend`` of a file; the second is what the file is, for people.

    Args:
        source: what :func:`~eomt_ext_core.model.checkpoint.load_model` takes, or an exported ONNX file.
        config: how to run it.
        head: a separate file with the anomaly head, or none.
        normality: a file of ``eomt-ext learn-normal``, or none.
        download: whether ``hf://owner/name`` is allowed.

    Raises:
        CheckpointError: where a file cannot be used.
        ConfigError: where the configuration does not go with it.
    """
    path = resolve_source(source, download=download)
    if config.backend == "onnxruntime":
        if head:
            raise ConfigError(f"an exported file holds its head: head must be none with onnxruntime, got {head}")
        if normality:
            raise ConfigError(f"an exported file gives no features: normality needs backend torch, got {normality}")
        from eomt_ext_core.export.onnx_scorer import OnnxWindowScorer  # onnxruntime is an extra

        return OnnxWindowScorer.load(path, config), {"checkpoint": str(source), "checkpoint_sha256": sha256_of(path)}
    model = load_model(path, head=head or None, download=download)
    origin = {"checkpoint": str(source), "checkpoint_sha256": sha256_of(path)}
    if head:
        origin |= {"head": str(head), "head_sha256": sha256_of(resolve_source(head, download=download))}
    learnt = None
    if normality:
        learnt = load_normality(normality, model.network.encoder.embed_dim, origin)
        origin |= {"normality": str(normality), "normality_sha256": sha256_of(Path(normality).expanduser())}
    return torch_scorer(model, config, learnt), origin


def torch_scorer(model: EoMTExt, config: EngineConfig, normality: Normality | None = None) -> TorchWindowScorer:
    """Make the scorer of backend torch.

    Raises:
        ConfigError: where another backend is configured, the device is not there, or graphs are wanted without a GPU.
    """
    if config.backend != "torch":
        raise ConfigError(f"backend {config.backend} runs an exported file, not a model: use AnomalyEngine.load")
    device = choose_device(config.device)
    precision, optimize = choose_precision(config.precision, device), choose_optimize(config.optimize, device)
    return TorchWindowScorer(model, device, precision, optimize, config.score_stride, normality)
