"""A network from scratch on images of two classes that colour tells apart."""

from pathlib import Path

import pytest
import torch
from eomt_ext_training.data.sample import SemanticSample
from eomt_ext_training.network.loss import NetworkLossWeights, network_loss
from eomt_ext_training.network.training import NetworkTraining, train_from_scratch, train_network
from torch.utils.data import Dataset

from eomt_ext_core import DatasetError, EoMTExt, ModelConfig, load_model
from eomt_ext_core.model.eomt import Prediction
from eomt_ext_core.scoring.uncertainty import semantic_map

CONFIG = ModelConfig(
    "vit_small_patch14_reg4_dinov2",
    (32, 64),
    num_queries=2,
    num_classes=2,
    num_blocks=1,
    backbone_overrides={"embed_dim": 32, "depth": 2, "num_heads": 2},
)


class TwoColours(Dataset[SemanticSample]):
    """Red on one side of a boundary, blue on the other; a column of void."""

    def __init__(self, count: int = 16, size_hw: tuple[int, int] = (32, 64)) -> None:
        self.count, self.size_hw = count, size_hw

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> SemanticSample:
        semantic = torch.zeros(self.size_hw, dtype=torch.uint8)
        semantic[:, 16 * (1 + index % 3) :] = 1
        image = torch.stack([255 * (semantic == 0), 0 * semantic, 255 * (semantic == 1)]).byte()
        semantic[:, -2:] = 255
        return SemanticSample(image, semantic)


def test_learns_in_stages_and_is_saved(tmp_path: Path) -> None:
    stages = (
        NetworkTraining(steps=30, batch_size=4, shrink=2, lr=3e-3, warmup_steps=5, bf16=False),
        NetworkTraining(steps=60, batch_size=4, lr=3e-3, warmup_steps=5, bf16=False, seed=1),
    )
    model = train_from_scratch(CONFIG, TwoColours(), stages, tmp_path / "network.safetensors")
    assert model.config == CONFIG == load_model(tmp_path / "network.safetensors").config
    assert not any(parameter.requires_grad for parameter in model.network.parameters())
    sample = TwoColours()[1]
    with torch.inference_mode():
        prediction = model(sample.image[None].float() / 255)
    classes = semantic_map(prediction.mask_logits, prediction.class_logits, (32, 64)).argmax(dim=1)[0]
    valid = sample.semantic != 255
    assert (classes == sample.semantic)[valid].float().mean() > 0.9


def test_same_seed_same_network() -> None:
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(9)
        network = EoMTExt(CONFIG).network
        losses = train_network(network, TwoColours(), NetworkTraining(steps=2, batch_size=2, bf16=False, seed=seed))
        results.append((losses, network.class_head.weight.detach().clone()))
    assert results[0][0] == results[1][0] != results[2][0]
    assert results[0][1].equal(results[1][1])


def test_wrong_data_is_refused() -> None:
    network = EoMTExt(CONFIG).network
    with pytest.raises(DatasetError, match="at least one image"):
        train_network(network, TwoColours(0), NetworkTraining(steps=1))
    with pytest.raises(DatasetError, match=r"2 times the crop \(32, 64\), got \(16, 32\)"):
        train_network(network, TwoColours(), NetworkTraining(steps=1, shrink=2))


def test_loss_ignores_void_and_falls_with_truth() -> None:
    torch.manual_seed(0)
    semantic = torch.zeros(1, 32, 64, dtype=torch.uint8)
    semantic[:, :, 32:] = 1
    truth = torch.where(semantic[:, None, ::4, ::4] == torch.arange(2)[:, None, None], 9.0, -9.0)
    classes = torch.tensor([[[9.0, -9.0, -9.0], [-9.0, 9.0, -9.0]]])
    features = torch.zeros(1, 1, 2, 4)
    weights = NetworkLossWeights()
    right = network_loss(Prediction(truth, classes, features), semantic, weights)
    wrong = network_loss(Prediction(-truth, classes, features), semantic, weights)
    assert right < 0.1 < 5 < wrong
    void = semantic.clone()
    void[:, 16:] = 255
    spoilt = truth.clone()
    spoilt[:, :, 4:] *= -1
    kept = network_loss(Prediction(truth, classes, features), void, weights)
    assert network_loss(Prediction(spoilt, classes, features), void, weights).item() == pytest.approx(kept.item())
    with pytest.raises(ValueError, match="as many queries as classes"):
        network_loss(Prediction(truth[:, :1], classes[:, :1], features), semantic, weights)
