from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from eomt_ext_core import CheckpointError, EoMTExt, HeadConfig
from eomt_ext_core.backends.torch_scorer import TorchWindowScorer
from eomt_ext_core.backends.window_scorer import SEMANTIC, class_names_of
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


def test_scores_and_the_semantic_map_come_in_the_order_asked_for(model: EoMTExt, crops: Tensor) -> None:
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
