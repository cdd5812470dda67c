import pytest
import torch
from eomt_ext_training.head import factored_loss
from eomt_ext_training.head.factored_loss import bilinear_at, logits_at, loss_on_all_pixels, loss_on_pixels
from eomt_ext_training.head.losses import anomaly_loss, count_valid
from eomt_ext_training.head.pixel_sampling import PixelSample, draw_pixels
from torch import Tensor
from torch.nn import functional as F

from eomt_ext_core import HeadConfig, Prediction
from eomt_ext_core.scoring.anomaly_head import PixelAnomalyHead
from eomt_ext_core.scoring.uncertainty import semantic_map, statistics


@pytest.fixture(params=[None, 8], ids=["plain", "projected"])
def head(request: pytest.FixtureRequest) -> PixelAnomalyHead:
    torch.manual_seed(1)
    return PixelAnomalyHead(12, HeadConfig(hidden_dim=16, feature_proj_dim=request.param, dropout=0.0))


def literal_logits(head: PixelAnomalyHead, prediction, size_hw: tuple[int, int]) -> Tensor:
    semantic = semantic_map(prediction.mask_logits, prediction.class_logits, size_hw)
    return head(statistics(semantic), prediction.features)[..., 0]


def gradients(head: PixelAnomalyHead, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(head.parameters())))


@pytest.mark.parametrize("band_floats", [1, 20_000, 1 << 30], ids=["row by row", "bands", "whole"])
def test_all_pixels_equal_the_literal_head(head, frozen_batch, band_floats, monkeypatch) -> None:
    monkeypatch.setattr(factored_loss, "CPU_BAND_FLOATS", band_floats)
    prediction, labels = frozen_batch()
    literal = anomaly_loss(literal_logits(head, prediction, labels.shape[1:]), labels, 10.0)
    factored = loss_on_all_pixels(head, prediction, labels, 10.0, float(count_valid(labels)))
    torch.testing.assert_close(factored, literal, atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(gradients(head, 3 * factored), gradients(head, 3 * literal), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        assert theirs.abs().max() > 1e-4


def test_chosen_pixels_equal_the_literal_head(head, frozen_batch) -> None:
    prediction, labels = frozen_batch()
    literal = literal_logits(head, prediction, labels.shape[1:])
    everything = torch.arange(labels[0].numel()).expand(2, -1)
    size_hw = tuple(labels.shape[1:])
    torch.testing.assert_close(
        logits_at(head, prediction, size_hw, everything), literal.flatten(1), atol=1e-5, rtol=1e-5
    )
    pixels = PixelSample(everything, labels.flatten(1), torch.ones(everything.shape))
    ours = loss_on_pixels(head, prediction, size_hw, pixels, 10.0, float(count_valid(labels)))
    theirs = anomaly_loss(literal, labels, 10.0)
    for own, other in zip(gradients(head, ours), gradients(head, theirs), strict=True):
        torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("balanced", [False, True])
def test_drawn_pixels_estimate_loss_and_gradient_without_bias(head, frozen_batch, balanced: bool) -> None:
    prediction, labels = frozen_batch()
    num_valid, size_hw = float(count_valid(labels)), tuple(labels.shape[1:])
    exact = loss_on_all_pixels(head, prediction, labels, 10.0, num_valid)
    generator = torch.Generator().manual_seed(0)
    pixels = draw_pixels(labels, 40_000, balanced=balanced, generator=generator)
    estimate = loss_on_pixels(head, prediction, size_hw, pixels, 10.0, num_valid)
    assert estimate.item() == pytest.approx(exact.item(), rel=0.05)
    for ours, theirs in zip(gradients(head, estimate), gradients(head, exact), strict=True):
        assert (ours - theirs).norm() < 0.12 * theirs.norm() + 1e-4


def test_void_changes_nothing(head, frozen_batch) -> None:
    prediction, labels = frozen_batch()
    labels[:, :, ::2] = 255
    full = loss_on_all_pixels(head, prediction, labels, 10.0, float(count_valid(labels)))
    half = labels.clone()
    half[1] = 255
    only_first = loss_on_all_pixels(head, prediction, half, 10.0, float(count_valid(half)))
    first = loss_on_all_pixels(head, type(prediction)(*(part[:1] for part in prediction)), labels[:1], 10.0,
                               float(count_valid(labels[:1])))  # fmt: skip
    assert only_first.item() == pytest.approx(first.item(), rel=1e-6)
    assert full.item() != pytest.approx(first.item(), rel=1e-3)
    nothing = loss_on_all_pixels(head, prediction, torch.full_like(labels, 255), 10.0, 1.0)
    assert nothing.item() == 0
    assert all((gradient == 0).all() for gradient in gradients(head, nothing))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("band_floats", [20_000, 1 << 30], ids=["bands", "whole"])
def test_mixed_precision_stays_near(head, frozen_batch, dtype, band_floats, monkeypatch) -> None:
    monkeypatch.setattr(factored_loss, "CPU_BAND_FLOATS", band_floats)
    prediction, labels = frozen_batch()
    pos_weight = 1000.0  # gradients summed over a crop are beyond 65504, the largest float16
    num_valid = float(count_valid(labels))
    everything = torch.arange(labels[0].numel()).expand(2, -1)
    pixels = PixelSample(everything, labels.flatten(1), torch.ones(everything.shape))
    exact = loss_on_all_pixels(head, prediction, labels, pos_weight, num_valid)
    with torch.autocast("cpu", dtype):
        by_bands = loss_on_all_pixels(head, prediction, labels, pos_weight, num_valid)
        by_pixels = loss_on_pixels(head, prediction, tuple(labels.shape[1:]), pixels, pos_weight, num_valid)
    exact_gradients = gradients(head, exact)
    for loss in (by_bands, by_pixels):
        assert loss.item() == pytest.approx(exact.item(), rel=0.01)
        for ours, theirs in zip(gradients(head, loss), exact_gradients, strict=True):
            assert (ours - theirs).norm() < 0.05 * theirs.norm() + 1e-3


def test_gradients_are_the_same_each_time_with_several_threads(head) -> None:
    """Large enough for torch to share the work of a band among threads."""
    torch.manual_seed(0)
    prediction = Prediction(torch.randn(1, 6, 32, 128), torch.randn(1, 6, 6), torch.randn(1, 12, 8, 128))
    labels = torch.randint(2, (1, 64, 512), dtype=torch.uint8)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        runs = [gradients(head, loss_on_all_pixels(head, prediction, labels, 10.0, 1.0)) for _ in range(8)]
    finally:
        torch.set_num_threads(threads)
    assert all(one.equal(first) for run in runs for one, first in zip(run, runs[0], strict=True))


def test_no_graph_without_gradients(head, frozen_batch) -> None:
    prediction, labels = frozen_batch()
    with torch.no_grad():
        loss = loss_on_all_pixels(head, prediction, labels, 10.0, 1.0)
    assert not loss.requires_grad
    assert loss.item() > 0


def test_dropout_has_its_rate_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    ones = torch.ones(1000, 1001)
    dropped = factored_loss._drop(ones, 0.3)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.002)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.003)
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.7], rel=1e-4)
    assert factored_loss._drop(ones, 0.0) is ones or factored_loss._drop(ones, 0.0).equal(ones)


@pytest.mark.parametrize("image_hw", [(8, 12), (9, 5), (3, 2)])
def test_bilinear_at_equals_interpolate(image_hw: tuple[int, int]) -> None:
    maps = torch.randn(2, 4, 6, 3)
    resized = F.interpolate(maps.permute(0, 3, 1, 2), image_hw, mode="bilinear", align_corners=False)
    everything = torch.arange(image_hw[0] * image_hw[1]).expand(2, -1)
    ours = bilinear_at(maps, image_hw, everything)
    torch.testing.assert_close(ours, resized.flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-5)
