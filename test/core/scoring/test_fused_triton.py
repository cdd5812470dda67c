from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from eomt_ext_core.scoring.factored import FactoredHead
from eomt_ext_core.scoring.head_scorer import make_head_scorer

triton = pytest.importorskip("triton")
from eomt_ext_core.scoring import fused_triton  # noqa: E402
from eomt_ext_core.scoring.fused_kernel import HALF_TILES  # noqa: E402
from eomt_ext_core.scoring.fused_triton import FusedHead, _is_lean  # noqa: E402
from eomt_ext_core.scoring.lean_kernel import LEAN_TILES  # noqa: E402

# The interpreter's time is the number of programs: few large tiles.
TILE = triton.Config({"TILE_H": 16, "TILE_W": 32, "BLOCK_Q": 16, "BLOCK_HIDDEN": 32})

SMALL = {"size_hw": (16, 32), "mask_hw": (4, 8), "patch_hw": (1, 2)}
CASES = {
    "a batch": {"size_hw": (32, 48), "mask_hw": (8, 12), "patch_hw": (2, 3), "batch": 2},
    "features as they are": {**SMALL, "projected": None},
    "many queries": {**SMALL, "queries": 100, "classes": 19, "hidden": 256},
    "many classes": {**SMALL, "queries": 20, "classes": 150, "hidden": 40},
    "one query, one class": {**SMALL, "queries": 1, "classes": 1, "hidden": 16},
    "wide head": {**SMALL, "hidden": 300},
    "odd sizes": {"size_hw": (19, 41), "mask_hw": (7, 11), "patch_hw": (3, 5), "hidden": 33},
    "upsampling by 1": {"size_hw": (12, 36), "mask_hw": (12, 36), "patch_hw": (12, 36)},
    "upsampling by 2": {"size_hw": (12, 36), "mask_hw": (6, 18), "patch_hw": (6, 18)},
    "upsampling by 16/3": {"size_hw": (16, 32), "mask_hw": (3, 6), "patch_hw": (3, 6)},
    "downsampling": {"size_hw": (9, 13), "mask_hw": (40, 24), "patch_hw": (4, 6)},
}


@pytest.mark.parametrize("sizes", CASES.values(), ids=CASES.keys())
def test_logits_are_those_of_the_literal_form(
    sizes: dict[str, Any], scoring_case: Callable[..., Any], interpreted: Callable[..., Any]
) -> None:
    case = scoring_case(**sizes)
    logits = interpreted(FusedHead(case.head, tile=TILE), *case.inputs)
    assert logits.shape == case.logits.shape
    assert logits.dtype == torch.float32
    assert case.logits.std() > 0.01
    assert (logits - case.logits).abs().max() <= 1e-5


def test_the_tile_of_a_gpu_gives_the_same(scoring_case: Callable[..., Any], interpreted: Callable[..., Any]) -> None:
    case = scoring_case((9, 17), (3, 5), (1, 2), hidden=128)
    logits = interpreted(FusedHead(case.head), *case.inputs)
    assert (logits - case.logits).abs().max() <= 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_are_near(
    dtype: torch.dtype, scoring_case: Callable[..., Any], interpreted: Callable[..., Any]
) -> None:
    case = scoring_case((32, 48), (8, 12), (2, 3), queries=20, dtype=dtype)
    logits = interpreted(FusedHead(case.head, tile=TILE), *case.inputs)
    assert logits.dtype == torch.float32
    difference = (logits - case.logits).abs().max()
    assert 0 < difference <= 0.01 * case.logits.abs().max()


LEAN_CASES = {
    "usual sizes": ({"queries": 100, "classes": 19, "hidden": 256}, torch.bfloat16),
    "a batch, half precision": ({"queries": 70, "classes": 5, "hidden": 64, "batch": 2}, torch.float16),
    "one query, one class": ({"queries": 1, "classes": 1, "hidden": 128, "projected": None}, torch.bfloat16),
    "whole blocks": ({"queries": 128, "classes": 64, "hidden": 64}, torch.bfloat16),
}


@pytest.mark.parametrize(("sizes", "dtype"), LEAN_CASES.values(), ids=LEAN_CASES.keys())
def test_the_lean_kernel_gives_the_same(
    sizes: dict[str, Any], dtype: torch.dtype, scoring_case: Callable[..., Any], interpreted: Callable[..., Any]
) -> None:
    case = scoring_case((10, 13), (3, 4), (1, 2), dtype=dtype, **sizes)
    wide = interpreted(FusedHead(case.head, tile=TILE), *case.inputs)
    largest = case.logits.abs().max()
    for tile in LEAN_TILES:
        logits = interpreted(FusedHead(case.head, tile=tile), *case.inputs)
        assert (logits - wide).abs().max() <= 0.01 * largest
        assert 0 < (logits - case.logits).abs().max() <= 0.02 * largest


@pytest.mark.parametrize(
    ("classes", "masks", "patches", "hidden", "side", "expected"),
    [
        (19, 160, 40, 256, 640, True),
        (150, 160, 40, 256, 640, False),  # more classes than a block
        (19, 160, 40, 320, 640, False),
        (19, 160, 40, 256, 320, False),  # score_stride 2: more patches under a tile
        (19, 640, 40, 256, 640, False),  # more cells of the masks under a tile than a product has
    ],
)
def test_sizes_decide_whether_the_lean_kernel_is_tried(
    classes: int, masks: int, patches: int, hidden: int, side: int, expected: bool
) -> None:
    shapes = (2, 100, masks, masks), (2, patches, patches, hidden), (2, side, side, 1)
    assert _is_lean(classes, *map(torch.Size, shapes)) == expected


def test_the_kernel_is_chosen_once_for_each_batch_size(
    scoring_case: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[str] = []

    def fastest(what: str, ways: dict[str, Any], *_: Any) -> str:
        chosen.append(what)
        return list(ways)[-1]

    monkeypatch.setattr(fused_triton, "fastest", fastest)
    monkeypatch.setattr(FusedHead, "_launch_lean", lambda self, masks, probs, visual, logits: logits.fill_(7.0))
    fused = None
    for batch in (1, 2, 2, 1):
        case = scoring_case((48, 64), (12, 16), (3, 4), batch=batch, dtype=torch.bfloat16)
        fused = fused or FusedHead(case.head)
        assert (fused(*case.inputs) == 7).all()
    assert chosen == ["scoring of 1 windows", "scoring of 2 windows"]


def test_what_is_not_finite_is_not_hidden(
    scoring_case: Callable[..., Any], literal_case: Callable[..., Any], interpreted: Callable[..., Any]
) -> None:
    whole = scoring_case((32, 64), (8, 16), (2, 4))
    masks, scores, size_hw, features = whole.inputs
    for broken_masks, broken_features in ((True, False), (False, True)):
        inputs = (masks.clone(), scores, size_hw, features.clone())
        inputs[0][0, 2, 1, 1] = torch.nan if broken_masks else masks[0, 2, 1, 1]
        inputs[3][0, 5, 0, 0] = torch.nan if broken_features else features[0, 5, 0, 0]
        logits = interpreted(FusedHead(whole.head, tile=TILE), *inputs)
        expected = literal_case(whole.head, inputs).logits
        assert expected.isnan().any()
        assert logits[expected.isnan()].isnan().all()
        far = (slice(None), slice(None), slice(40, None))  # no cell under these tiles is broken
        assert (logits[far] - expected[far]).abs().max() <= 1e-5


def test_later_changes_of_the_head_do_not_reach_the_copy(
    scoring_case: Callable[..., Any], interpreted: Callable[..., Any]
) -> None:
    case = scoring_case((16, 16), (4, 4), (1, 1))
    fused = FusedHead(case.head, tile=TILE)
    with torch.no_grad():
        for parameter in case.head.parameters():
            parameter.add_(1.0)
    assert (interpreted(fused, *case.inputs) - case.logits).abs().max() <= 1e-5


def on_gpu(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(part.cuda() if isinstance(part, Tensor) else part for part in inputs)


@pytest.mark.gpu
@pytest.mark.parametrize("sizes", CASES.values(), ids=CASES.keys())
def test_on_a_gpu_float32_is_exact(sizes: dict[str, Any], scoring_case: Callable[..., Any]) -> None:
    case = scoring_case(**sizes)
    logits = FusedHead(case.head.cuda())(*on_gpu(case.inputs))
    assert (logits.cpu() - case.logits).abs().max() <= 1e-5


@pytest.mark.gpu
@pytest.mark.parametrize("tile", [None, *HALF_TILES, *LEAN_TILES], ids=str)
def test_on_a_gpu_every_tiling_is_near(tile: Any, scoring_case: Callable[..., Any]) -> None:
    sizes = {"queries": 100, "classes": 19, "hidden": 256, "batch": 2}
    case = scoring_case((96, 160), (24, 40), (6, 10), **sizes, dtype=torch.bfloat16)
    logits = FusedHead(case.head.cuda(), tile=tile)(*on_gpu(case.inputs))
    assert (logits.cpu() - case.logits).abs().max() <= 0.01 * case.logits.abs().max()


@pytest.mark.gpu
def test_on_a_gpu_the_fused_kernel_is_chosen(scoring_case: Callable[..., Any]) -> None:
    case = scoring_case((32, 48), (8, 12), (2, 3))
    scorer = make_head_scorer(case.head.cuda(), torch.device("cuda", 0))
    assert scorer.name == "triton"
    plain = FactoredHead(case.head)(*on_gpu(case.inputs))
    assert (scorer(*on_gpu(case.inputs)) - plain).abs().max() <= 1e-5


@pytest.mark.gpu
def test_on_a_gpu_a_graph_of_it_replays(scoring_case: Callable[..., Any]) -> None:
    case = scoring_case((96, 160), (24, 40), (6, 10), batch=2, dtype=torch.bfloat16)
    masks, scores, size_hw, features = on_gpu(case.inputs)
    fused = FusedHead(case.head.cuda(), tile=HALF_TILES[0])
    fused(masks, scores, size_hw, features)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = fused(masks, scores, size_hw, features)
    masks.neg_()
    features.mul_(0.5)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(captured, fused(masks, scores, size_hw, features))


@pytest.mark.gpu
def test_on_a_gpu_later_calls_neither_wait_nor_take_memory(scoring_case: Callable[..., Any]) -> None:
    case = scoring_case((96, 160), (24, 40), (6, 10), dtype=torch.bfloat16)
    inputs = on_gpu(case.inputs)
    fused = FusedHead(case.head.cuda(), tile=HALF_TILES[0])
    for _ in range(3):
        fused(*inputs)
    torch.cuda.synchronize()
    before = torch.cuda.memory_stats()["num_device_alloc"], torch.cuda.memory_allocated()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(50):
            fused(*inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert (torch.cuda.memory_stats()["num_device_alloc"], torch.cuda.memory_allocated()) == before
