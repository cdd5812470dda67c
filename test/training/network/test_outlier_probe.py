"""Outlier exposure: what the probe's loss counts, and that it reaches the network's features but not its classes."""

import math

import pytest
import torch
from eomt_ext_training.data.sample import OUTLIER, VOID, SemanticSample
from eomt_ext_training.network.loss import NetworkLossWeights, network_loss
from eomt_ext_training.network.outlier_probe import OutlierProbe
from eomt_ext_training.network.training import NetworkTraining, train_network
from torch.utils.data import Dataset

from eomt_ext_core import EoMTExt, ModelConfig
from eomt_ext_core.model.eomt import Prediction

CONFIG = ModelConfig(
    "vit_small_patch14_reg4_dinov2",
    (32, 64),
    num_queries=2,
    num_classes=2,
    num_blocks=1,
    backbone_overrides={"embed_dim": 32, "depth": 2, "num_heads": 2},
)


def probe_with(weight: float, bias: float) -> OutlierProbe:
    probe = OutlierProbe(1)
    torch.nn.init.constant_(probe.linear.weight, weight)
    torch.nn.init.constant_(probe.linear.bias, bias)
    return probe


def test_loss_by_hand() -> None:
    features = torch.zeros(1, 1, 1, 2)
    semantic = torch.zeros(1, 16, 32, dtype=torch.uint8)
    semantic[:, :, 16:] = OUTLIER  # one half of the cells wholly, with a positive weight of 4
    assert probe_with(0.0, 0.0)(features, semantic).item() == pytest.approx((1 + 4) / 2 * math.log(2))


def test_void_contributes_nothing() -> None:
    features = torch.zeros(1, 1, 1, 2)
    semantic = torch.zeros(1, 16, 32, dtype=torch.uint8)
    semantic[:, :, 16:] = VOID
    known_only = probe_with(0.0, 1.0)(features, semantic)
    assert known_only.item() == pytest.approx(math.log1p(math.e))
    nothing = probe_with(0.0, 1.0)(features, torch.full_like(semantic, VOID))
    assert nothing.item() == 0.0


def test_outliers_take_no_part_in_the_loss_of_the_classes() -> None:
    torch.manual_seed(0)
    prediction = Prediction(torch.randn(1, 2, 8, 16), torch.randn(1, 2, 3), torch.randn(1, 4, 2, 4))
    semantic = torch.randint(0, 2, (1, 32, 64), dtype=torch.uint8)
    semantic[:, 8:16, 8:16] = OUTLIER
    void = torch.where(semantic == OUTLIER, VOID, semantic)
    weights = NetworkLossWeights()
    assert network_loss(prediction, semantic, weights).equal(network_loss(prediction, void, weights))


class GreenThings(Dataset[SemanticSample]):
    """Red beside blue, and on one of them a green square that is of no class."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> SemanticSample:
        semantic = torch.zeros(32, 64, dtype=torch.uint8)
        semantic[:, 32:] = 1
        column = 8 * (index % 7)
        semantic[8:24, column : column + 16] = OUTLIER
        image = torch.stack([255 * (semantic == value) for value in (0, OUTLIER, 1)]).byte()
        return SemanticSample(image, semantic)


def test_training_with_a_probe_is_reproducible() -> None:
    def trained(outlier_weight: float) -> EoMTExt:
        torch.manual_seed(3)
        model = EoMTExt(CONFIG)
        settings = NetworkTraining(steps=12, batch_size=4, warmup_steps=2, bf16=False, outlier_weight=outlier_weight)
        train_network(model.network, GreenThings(), settings)
        return model

    without, with_probe, again = trained(0.0), trained(10.0), trained(10.0)
    key = "encoder.backbone.blocks.1.mlp.fc2.weight"
    assert with_probe.network.state_dict()[key].equal(again.network.state_dict()[key])
    assert not with_probe.network.state_dict()[key].equal(without.network.state_dict()[key])
    assert set(with_probe.network.state_dict()) == set(without.network.state_dict())
