import pytest
import torch

from eomt_ext_core.config import HeadConfig
from eomt_ext_core.errors import CheckpointError
from eomt_ext_core.scoring.anomaly_head import PixelAnomalyHead, check_head


def count(head: PixelAnomalyHead) -> int:
    return sum(parameter.numel() for parameter in head.parameters())


def test_sizes_and_names_are_those_of_the_reference() -> None:
    projected = PixelAnomalyHead(768, HeadConfig())
    # Conv2d(768, 32, 1), Linear(36, 256), Linear(256, 128), Linear(128, 1), each with its bias: inside 50K to 100K.
    assert count(projected) == (768 * 32 + 32) + (36 * 256 + 256) + (256 * 128 + 128) + (128 + 1) == 67_105
    assert {key: tuple(value.shape) for key, value in projected.state_dict().items()} == {
        "feature_proj.0.weight": (32, 768, 1, 1),
        "feature_proj.0.bias": (32,),
        "mlp.0.weight": (256, 36),
        "mlp.0.bias": (256,),
        "mlp.3.weight": (128, 256),
        "mlp.3.bias": (128,),
        "mlp.6.weight": (1, 128),
        "mlp.6.bias": (1,),
    }
    plain = PixelAnomalyHead(768, HeadConfig(feature_proj_dim=None))
    assert count(plain) == 230_913
    assert plain.feature_proj is None
    assert plain.mlp[0].weight.shape == (256, 772)


def test_a_head_computed_by_hand() -> None:
    """One feature, hidden 2: relu(W·(max_prob, entropy, energy, msp, feature)), written out."""
    head = PixelAnomalyHead(1, HeadConfig(hidden_dim=2, feature_proj_dim=None)).eval()
    with torch.no_grad():
        head.mlp[0].weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0], [-1.0, 0.0, 0.0, 0.0, 0.0]]))
        head.mlp[0].bias.copy_(torch.tensor([0.5, 0.25]))
        head.mlp[3].weight.copy_(torch.tensor([[1.0, 10.0]]))
        head.mlp[3].bias.fill_(-1.0)
        head.mlp[6].weight.fill_(2.0)
        head.mlp[6].bias.fill_(0.125)
    statistics = torch.tensor([0.5, 0.25, 1.0, 0.5]).view(1, 1, 1, 4)
    logit = head(statistics, torch.full((1, 1, 1, 1), 2.0))
    hidden = 0.5 + 2 * 0.25 + 3 + 4 * 0.5 + 5 * 2 + 0.5  # the second unit is negative, so 0
    assert logit.shape == (1, 1, 1, 1)
    assert logit.item() == 2 * (hidden - 1) + 0.125


def test_the_projection_comes_before_the_resize() -> None:
    head = PixelAnomalyHead(1, HeadConfig(hidden_dim=2, feature_proj_dim=1)).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.feature_proj[0].weight.fill_(1.0)  # type: ignore[index]
        head.mlp[0].weight[0, 4] = 1.0
        head.mlp[3].weight[0, 0] = 1.0
        head.mlp[6].weight.fill_(1.0)
    features = torch.tensor([-4.0, 4.0]).view(1, 1, 1, 2)
    logits = head(torch.zeros(1, 1, 4, 4), features).flatten()
    # ReLU at patch resolution gives (0, 4), which is then interpolated; the other way round gives (0, 0, 2, 4).
    assert logits.tolist() == [0.0, 1.0, 3.0, 4.0]


def test_dropout_acts_only_while_training() -> None:
    head = PixelAnomalyHead(4, HeadConfig(hidden_dim=64))
    inputs = torch.rand(1, 5, 5, 4), torch.rand(1, 4, 2, 2)
    head.train()
    assert not torch.equal(head(*inputs), head(*inputs))
    head.eval()
    assert torch.equal(head(*inputs), head(*inputs))


@pytest.mark.parametrize("feature_proj_dim", [None, 8])
@pytest.mark.parametrize(
    ("parameter", "value"),
    [("mlp.0.weight", 0.0), ("mlp.3.weight", 0.0), ("mlp.6.weight", 0.0), ("mlp.0.bias", -6e4)],
)
def test_a_head_that_sees_nothing_is_refused(parameter: str, value: float, feature_proj_dim: int | None) -> None:
    head = PixelAnomalyHead(6, HeadConfig(hidden_dim=16, feature_proj_dim=feature_proj_dim)).half()
    check_head(head)
    with torch.no_grad():
        head.get_parameter(parameter).fill_(value)
    with pytest.raises(CheckpointError, match=r"got the logit .* for all inputs"):
        check_head(head)
