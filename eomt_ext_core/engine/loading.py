"""Make the scorer that a configuration describes, from a file or a model."""

from __future__ import annotations

from pathlib import Path

from eomt_ext_core.backends.device import choose_device, choose_optimize, choose_precision
from eomt_ext_core.backends.torch_scorer import TorchWindowScorer
from eomt_ext_core.backends.window_scorer import WindowScorer
from eomt_ext_core.config import EngineConfig
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.files import expanded, sha256_of
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
    """Make the scorer of ``config.backend`` from a file, and describe the file to an operator.

    Args:
        source: what :func:`~eomt_ext_core.model.checkpoint.load_model` takes, or an exported ONNX file.
        config: how to run it.
        head: a separate file with the anomaly head, or none.
        normality: a file of ``eomt-ext learn-normal``, or none.
        download: whether ``hf://owner/name`` is allowed.

    Raises:
        CheckpointError: if a file cannot be used.
        ConfigError: if the configuration does not fit the file.
    """
    path = resolve_source(source, download=download)
    backend = choose_backend(config.backend, source)
    if backend != "torch":
        if head:
            raise ConfigError(f"an exported file holds its head: head must be none with {backend}, got {head}")
        if normality:
            raise ConfigError(f"an exported file gives no features: normality needs backend torch, got {normality}")
        return _exported_scorer(path, config, backend), {
            "checkpoint": str(source),
            "checkpoint_sha256": sha256_of(path),
        }
    model = load_model(path, head=head or None, download=download)
    origin = {"checkpoint": str(source), "checkpoint_sha256": sha256_of(path)}
    if head:
        origin |= {"head": str(head), "head_sha256": sha256_of(resolve_source(head, download=download))}
    learnt = None
    if normality:
        learnt = load_normality(normality, model.network.encoder.embed_dim, origin)
        origin |= {"normality": str(normality), "normality_sha256": sha256_of(expanded(normality))}
    return torch_scorer(model, config, learnt), origin


def choose_backend(name: str, source: str | Path) -> str:
    """Return ``torch``, ``onnxruntime`` or ``openvino``; ``auto`` is onnxruntime for an ONNX file, else torch.

    >>> choose_backend("auto", "model.onnx"), choose_backend("auto", "demo")
    ('onnxruntime', 'torch')
    """
    if name != "auto":
        return name
    return "onnxruntime" if Path(source).suffix == ".onnx" else "torch"


def _exported_scorer(path: Path, config: EngineConfig, backend: str) -> WindowScorer:
    if backend == "openvino":
        from eomt_ext_core.runtimes.openvino_scorer import OpenVinoWindowScorer  # openvino is an extra

        return OpenVinoWindowScorer.load(path, config)
    from eomt_ext_core.runtimes.onnx_scorer import OnnxWindowScorer  # onnxruntime is an extra

    return OnnxWindowScorer.load(path, config)


def torch_scorer(model: EoMTExt, config: EngineConfig, normality: Normality | None = None) -> TorchWindowScorer:
    """Make the scorer of backend torch.

    Raises:
        ConfigError: if another backend is configured, the device does not exist, or graphs are wanted without a GPU.
    """
    if config.backend not in ("auto", "torch"):
        raise ConfigError(f"backend {config.backend} runs an exported file, not a model: use AnomalyEngine.load")
    device = choose_device(config.device)
    precision, optimize = choose_precision(config.precision, device), choose_optimize(config.optimize, device)
    return TorchWindowScorer(model, device, precision, optimize, config.score_stride, normality)
