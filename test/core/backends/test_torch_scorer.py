import functools
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from eomt_ext_core import AnomalyEngine, CheckpointError, EngineConfig, EoMTExt, HeadConfig
from eomt_ext_core.backends import torch_scorer
from eomt_ext_core.backends.cuda_graphs import padded_size
from eomt_ext_core.backends.torch_scorer import TorchWindowScorer
from eomt_ext_core.backends.window_scorer import GPU_BATCH, SEMANTIC, class_names_of
from eomt_ext_core.scoring.uncertainty import BASELINES, baseline_score, semantic_map

CPU = torch.device("cpu")
Make = Callable[..., EoMTExt]


@pytest.fixture(scope="module")
def model(tiny_model: Make) -> EoMTExt:
    return tiny_model(HeadConfig(16, 0.3, 8))


@pytest.fixture(scope="module")
def crops() -> Tensor:
    return torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def literal(model: EoMTExt, crops: Tensor, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The head's logits and the semantic map, at a size."""
    masks, classes, features = model(crops / 255)
    logits = model.compute_anomaly_score(masks, classes, size_hw, features).permute(0, 3, 1, 2)
    return logits, semantic_map(masks, classes, size_hw)


def test_scores_and_semantic_map_keep_requested_order(model: EoMTExt, crops: Tensor) -> None:
    scorer = TorchWindowScorer(model, CPU)
    assert scorer.scores == ("head", *BASELINES, SEMANTIC)
    result = scorer(crops, ("rba", SEMANTIC, "head"))
    logits, semantic = literal(model, crops, (64, 96))
    assert result.shape == (2, 1 + 5 + 1, 64, 96)
    torch.testing.assert_close(result[:, 0], baseline_score(semantic, "rba"), atol=1e-5, rtol=0)
    torch.testing.assert_close(result[:, 1:6], semantic, atol=1e-5, rtol=0)
    torch.testing.assert_close(result[:, 6:], logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("stride", [2, 4])
def test_a_stride_scores_fewer_pixels_and_resizes_the_logits(model: EoMTExt, crops: Tensor, stride: int) -> None:
    scorer = TorchWindowScorer(model, CPU, score_stride=stride)
    logits, semantic = literal(model, crops, (64 // stride, 96 // stride))
    expected = torch.cat((logits, semantic), dim=1)
    expected = F.interpolate(expected, (64, 96), mode="bilinear", align_corners=False)
    torch.testing.assert_close(scorer(crops, ("head", SEMANTIC)), expected, atol=1e-4, rtol=0)
    assert scorer.describe()["score_stride"] == str(stride)


@pytest.mark.parametrize("rows", [1, 13, 63])
def test_bands_of_rows_change_nothing(
    model: EoMTExt, crops: Tensor, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = (SEMANTIC, *BASELINES)
    whole = TorchWindowScorer(model, CPU)(crops, names)
    monkeypatch.setattr(torch_scorer, "CPU_BAND_FLOATS", rows * 96 * (6 + 6))
    torch.testing.assert_close(TorchWindowScorer(model, CPU)(crops, names), whole, atol=1e-5, rtol=0)


def test_the_masks_of_all_queries_never_are_whole(
    model: EoMTExt, crops: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_scorer, "CPU_BAND_FLOATS", 7 * 96 * (6 + 6))
    scorer, areas = TorchWindowScorer(model, CPU), []

    def listening(semantic: Tensor, kind: str) -> Tensor:
        areas.append(semantic.shape[2])
        return baseline_score(semantic, kind)

    monkeypatch.setattr(torch_scorer, "baseline_score", listening)
    scorer(crops, ("rba",))
    assert areas == [7] * 9 + [1] + [7] * 9 + [1]


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", False), ("bf16", True)])
def test_single_precision_is_never_tf32(
    model: EoMTExt, crops: Tensor, precision: str, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    scorer = TorchWindowScorer(model, CPU, precision)
    convolution = scorer._network.encoder.backbone.patch_embed.proj
    convolution.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    scorer(crops, ("head",))
    assert seen == [allowed]
    assert torch.backends.cudnn.allow_tf32


def test_compiled_scorer_accepts_many_sizes(tiny_model: Make, crops: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than torch does by itself, which is made few here, as each is compiled."""
    torch._dynamo.reset()  # of what other tests compiled
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    model = tiny_model(
        HeadConfig(16, 0.3, 8), num_blocks=1, backbone_overrides={"embed_dim": 32, "depth": 1, "num_heads": 2}
    )
    plain, compiled = TorchWindowScorer(model, CPU), TorchWindowScorer(model, CPU, optimize="compile")
    assert compiled.describe()["optimize"] == "compile"
    with torch._dynamo.config.patch(cache_size_limit=2):
        for count in range(1, 5):
            some = crops[:1].expand(count, -1, -1, -1)
            torch.testing.assert_close(compiled(some, ("head",)), plain(some, ("head",)), atol=1e-5, rtol=0)


class Graphs:
    """In the place of CUDA graphs: says how many windows each call had."""

    def __init__(self, function: Callable[..., Tensor], device: torch.device) -> None:
        self.function = function
        self.sizes: list[int] = []
        self.too_many: Collection[int] = ()
        self.cleared = 0
        self.captured: set[tuple[int, tuple[str, ...]]] = set()

    def __call__(self, crops: Tensor, scores: Any) -> Tensor:
        self.sizes.append(len(crops))
        if len(crops) in self.too_many:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        self.captured.add((padded_size(len(crops)), tuple(scores)))
        return self.function(crops, scores)

    def has(self, size: int, scores: Any) -> bool:
        return (padded_size(size), tuple(scores)) in self.captured

    def clear(self) -> None:
        self.cleared += 1
        self.captured.clear()


@pytest.fixture
def graphed(model: EoMTExt) -> TorchWindowScorer:
    """A scorer as on a GPU, on the CPU and without graphs."""
    scorer = TorchWindowScorer(model, CPU)
    scorer.max_batch = GPU_BATCH
    scorer._graphs = scorer._run = Graphs(scorer._score, CPU)  # type: ignore[assignment]
    return scorer


def test_no_frame_meets_a_size_for_the_first_time(graphed: TorchWindowScorer) -> None:
    engine = AnomalyEngine(graphed, EngineConfig(device="cpu", precision="fp32", batch_windows=5))
    graphs: Any = graphed._graphs
    assert graphs.sizes == [6, 4, 3, 2, 1, 1]  # the last is a whole frame
    before = {padded_size(size) for size in graphs.sizes}
    for width in range(96, 900, 96):
        engine.infer(np.zeros((64, width, 3), np.uint8))
    engine.infer_batch([np.zeros((64, 200, 3), np.uint8)] * 4)
    assert {padded_size(size) for size in graphs.sizes} == before
    assert max(graphs.sizes[6:]) == 5


def test_after_a_warm_up_no_frame_captures(graphed: TorchWindowScorer) -> None:
    config = EngineConfig(device="cpu", precision="fp32", batch_windows=2, threshold=0.5)
    engine = AnomalyEngine(graphed, config)
    graphs: Any = graphed._graphs
    assert engine.is_warm(config)
    for change in ({"score": "rba"}, {"batch_windows": 4}, {"batch_windows": 8, "score": "rba"}):
        other = replace(config, **change)
        assert not engine.is_warm(other)
        engine.warm_up(config=other)
        assert engine.is_warm(other)
        captured = graphs.captured.copy()
        engine.infer_batch([np.zeros((64, 400, 3), np.uint8)] * 2, config=other)
        assert graphs.captured == captured, change
    assert engine.config == config
    assert not engine.is_warm(config, semantic=True)
    engine.warm_up(semantic=True)
    assert engine.is_warm(config, semantic=True)


def test_batch_that_does_not_fit_is_skipped_with_warning(
    graphed: TorchWindowScorer, caplog: pytest.LogCaptureFixture
) -> None:
    graphs: Any = graphed._graphs
    graphs.too_many = (8, 12)
    assert graphed.warm_up(("head",), 12) == 6
    assert graphs.sizes == [12, 8, 6, 4, 3, 2, 1]
    assert graphs.cleared == 2
    assert caplog.messages[0] == "12 windows at a time do not fit into the memory of cpu: lower batch_windows"


def test_what_fits_is_what_is_still_captured(graphed: TorchWindowScorer) -> None:
    graphs: Any = graphed._graphs
    graphs.too_many = (6,)
    fitting = graphed.warm_up(("head",), 8)
    assert fitting == 4
    assert graphed.is_warm(("head",), fitting)


def test_without_graphs_a_cpu_has_nothing_to_warm_up(model: EoMTExt, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = TorchWindowScorer(model, CPU)
    monkeypatch.setattr(scorer, "_run", None)
    assert scorer.warm_up(("head",), 8) == 8
    assert scorer.is_warm(("head",), 8)


def test_without_graphs_a_gpu_runs_each_size_once(model: EoMTExt) -> None:
    scorer = TorchWindowScorer(model, CPU)
    run = Graphs(scorer._score, CPU)
    scorer._tunes, scorer._run = True, run
    assert not scorer.is_warm(("head",), 1)
    run.too_many = (4,)
    assert scorer.warm_up(("head",), 4) == 3
    assert run.sizes == [4, 3, 2, 1]
    warm = [scorer.is_warm(*asked) for asked in ((("head",), 3), (("head",), 4), (("rba",), 1))]
    assert warm == [True, False, False]


@pytest.mark.parametrize("obstacle", [None, "this GPU is old"])
def test_kernels_are_chosen_only_if_the_gpu_runs_them(
    model: EoMTExt, obstacle: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr(torch_scorer, "obstacle_to_triton", lambda device: asked.append(device) or obstacle)
    monkeypatch.setattr(torch_scorer, "choose_ways", lambda *_: {"part": "triton"})
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    scorer = TorchWindowScorer(model, CPU, "bf16")
    assert scorer._choose_ways() == ({} if obstacle else {"part": "triton"})
    assert asked == [CPU]


def test_a_model_without_a_head_offers_none(tiny_model: Make) -> None:
    scorer = TorchWindowScorer(tiny_model(), CPU)
    assert scorer.scores == (*BASELINES, SEMANTIC)
    assert scorer.describe()["scoring"] == "baselines only"


@pytest.mark.parametrize("names", [["road"], ["road", 2], "ab", {"road": 0, "car": 1}])
def test_class_names_that_do_not_fit_are_refused(names: Any) -> None:
    with pytest.raises(CheckpointError, match="class_names must be 2 texts"):
        class_names_of({"class_names": names}, 2)


def test_class_names_may_be_absent() -> None:
    assert class_names_of({}, 2) == class_names_of({"class_names": []}, 2) == ()
