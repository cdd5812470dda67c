from collections.abc import Callable

import pytest
import torch

from eomt_ext_core import EoMTExt, HeadConfig
from eomt_ext_core.backends.torch_scorer import TorchWindowScorer
from eomt_ext_core.backends.window_scorer import SEMANTIC
from eomt_ext_core.config import SCORES
from eomt_ext_core.export import program
from eomt_ext_core.export.check import probe_crops
from eomt_ext_core.export.program import ScoringProgram, trace

CPU = torch.device("cpu")


@pytest.mark.parametrize("band_floats", [1 << 24, 16_000])
@pytest.mark.parametrize("stride", [1, 2])
def test_it_scores_as_the_engine_does(
    tiny_model: Callable[..., EoMTExt],
    head_config: HeadConfig,
    stride: int,
    band_floats: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(program, "BAND_FLOATS", band_floats)
    model, outputs = tiny_model(head_config), (*SCORES, SEMANTIC)
    crops = probe_crops(model.config.crop_hw, 2)
    with torch.inference_mode():
        found = torch.cat(ScoringProgram(model, outputs, score_stride=stride)(crops), dim=1)
        expected = TorchWindowScorer(model, CPU, "fp32", "none", stride)(crops, outputs)
    assert found.shape == (2, len(SCORES) + model.config.num_classes, *model.config.crop_hw)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)


def test_half_precision_is_the_networks_alone(tiny_model: Callable[..., EoMTExt]) -> None:
    model = tiny_model(HeadConfig(16, 0.3, 8))
    crops = probe_crops(model.config.crop_hw, 1)
    half = ScoringProgram(model, ("head",), half=True)
    with torch.inference_mode():
        (found,), (exact,) = half(crops), ScoringProgram(model, ("head",))(crops)
    assert found.dtype == torch.float32
    assert {tensor.dtype for tensor in half.network.state_dict().values()} == {torch.float16}
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    assert 0 < (found - exact).abs().max() < 0.01 * exact.abs().max()


@pytest.mark.parametrize("masked", [False, True])
def test_a_graph_takes_any_number_of_windows_or_one_number(tiny_model: Callable[..., EoMTExt], masked: bool) -> None:
    overrides = {"embed_dim": 32, "depth": 1, "num_heads": 2}
    model, other = (
        tiny_model(seed=1, masked_attention=kind, num_blocks=1, backbone_overrides=overrides)
        for kind in (masked, not masked)
    )
    anything, two = (trace(ScoringProgram(model, ("rba",)), batch, CPU).module() for batch in (0, 2))
    crops = probe_crops(model.config.crop_hw, 3)
    with torch.inference_mode():
        expected = ScoringProgram(model, ("rba",))(crops)[0]
        assert (ScoringProgram(other, ("rba",))(crops)[0] - expected).abs().max() > 1e-3, "the masks hide something"
        for count in (1, 3):
            torch.testing.assert_close(anything(crops[:count])[0], expected[:count], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(two(crops[:2])[0], expected[:2], atol=1e-5, rtol=1e-5)
        with pytest.raises(AssertionError, match=r"size\(\)\[0\] == 2"):
            two(crops)
