"""A score is the same alone and among others, at the published window size, and is what the definition gives."""

from collections.abc import Callable, Iterator
from itertools import combinations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from eomt_ext_core import EoMTExt, HeadConfig
from eomt_ext_core.backends.torch_scorer import TorchWindowScorer
from eomt_ext_core.backends.window_scorer import SEMANTIC
from eomt_ext_core.scoring.uncertainty import BASELINES, baseline_score, semantic_map

CROP_HW = (640, 640)
ALL = ("head", *BASELINES, SEMANTIC)


@pytest.fixture(scope="module")
def model(tiny_model: Callable[..., EoMTExt]) -> EoMTExt:
    overrides = {"embed_dim": 16, "depth": 1, "num_heads": 1}
    return tiny_model(
        HeadConfig(8, 0.3, 4),
        crop_hw=CROP_HW,
        num_queries=20,
        num_classes=19,
        num_blocks=1,
        backbone_overrides=overrides,
    )


@pytest.fixture(scope="module")
def window() -> Tensor:
    return torch.randint(0, 256, (1, 3, *CROP_HW), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def channels_of(name: str) -> int:
    return 19 if name == SEMANTIC else 1


@pytest.fixture(autouse=True)
def poison() -> Iterator[None]:
    """Have torch fill memory that it hands out with NaN, so that it is not that of an earlier, right result."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def scores_of(scorer: TorchWindowScorer, window: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Scores by name."""
    return dict(zip(names, scorer(window, names).split([channels_of(name) for name in names], dim=1), strict=True))


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_score_is_the_same_alone_and_together(
    model: EoMTExt, window: Tensor, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = TorchWindowScorer(model, torch.device("cpu"), score_stride=stride)
    prediction = scorer.predict(window)
    monkeypatch.setattr(scorer, "predict", lambda _: prediction)  # the network's work is the same each time
    among_all = scores_of(scorer, window, ALL)
    pairs = combinations(ALL, 2) if stride == 4 else ()
    for names in [*((name,) for name in ALL), *pairs]:
        for name, found in scores_of(scorer, window, names).items():
            assert torch.equal(found, among_all[name]), f"{name} among {names}"


@pytest.mark.parametrize("name", BASELINES)
@torch.inference_mode()
def test_a_baseline_alone_is_what_its_definition_gives(model: EoMTExt, window: Tensor, name: str) -> None:
    masks, classes, _ = model(window / 255)
    found = scores_of(TorchWindowScorer(model, torch.device("cpu")), window, (name,))[name]
    torch.testing.assert_close(
        found[:, 0], baseline_score(semantic_map(masks, classes, CROP_HW), name), atol=1e-5, rtol=0
    )
    assert found.std() > 1e-4


@torch.inference_mode()
def test_the_head_at_full_size_is_what_its_definition_gives(model: EoMTExt, window: Tensor) -> None:
    masks, classes, features = model(window / 255)
    expected = model.compute_anomaly_score(masks, classes, CROP_HW, features).permute(0, 3, 1, 2)
    found = scores_of(TorchWindowScorer(model, torch.device("cpu")), window, ("head",))["head"]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    strided = scores_of(TorchWindowScorer(model, torch.device("cpu"), score_stride=4), window, ("head",))["head"]
    quarter = model.compute_anomaly_score(masks, classes, (160, 160), features).permute(0, 3, 1, 2)
    resized = F.interpolate(quarter, CROP_HW, mode="bilinear", align_corners=False)
    torch.testing.assert_close(strided, resized, atol=1e-4, rtol=0)
