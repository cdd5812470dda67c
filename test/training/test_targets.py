import pytest
import torch
from eomt_ext_training.data.anomaly_data import AnomalyData
from eomt_ext_training.data.augmentation import Augmented
from eomt_ext_training.data.sample import Sample
from eomt_ext_training.head.losses import anomaly_loss
from eomt_ext_training.targets import label_map
from torch.utils.data import Dataset

from eomt_ext_core import DatasetError

LABELS = torch.tensor([[0, 0, 1], [255, 1, 0]], dtype=torch.uint8)


def test_masks_and_label_map_give_the_same_labels_and_loss() -> None:
    target = {
        "masks": torch.stack([LABELS == 0, (LABELS == 1) & (torch.arange(3) == 2), LABELS == 1, LABELS == 255]),
        "labels": torch.tensor([0, 1, 1, 255]),
    }
    assert label_map(target).equal(LABELS)
    assert label_map(LABELS.long()).equal(LABELS)
    logits = torch.tensor([[0.3, -2.0, 1.0], [5.0, -1.0, 0.2]])
    from_masks, from_map = (anomaly_loss(logits, label_map(form), 10.0) for form in (target, LABELS))
    assert from_masks == from_map > 0


def test_overlaps_and_gaps() -> None:
    masks = torch.tensor([[[1, 1, 1, 0]], [[0, 1, 1, 0]], [[0, 0, 1, 0]]]).bool()
    for order in ([0, 1, 2], [2, 1, 0]):
        target = {"masks": masks[order], "labels": torch.tensor([0, 1, 255])[order]}
        assert label_map(target).tolist() == [[0, 1, 255, 255]]
    empty = {"masks": torch.zeros(0, 2, 2, dtype=torch.bool), "labels": torch.zeros(0, dtype=torch.int64)}
    assert (label_map(empty) == 255).all()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"masks": torch.zeros(1, 2, 2).bool()}, "labels not found"),
        ({"masks": torch.zeros(2, 2).bool(), "labels": torch.tensor([0, 1])}, r"masks \(N, H, W\)"),
        ({"masks": torch.zeros(2, 2, 2).bool(), "labels": torch.tensor([0])}, r"labels \(N,\)"),
        ({"masks": torch.zeros(1, 2, 2).bool(), "labels": torch.tensor([2])}, "got 2"),
        (torch.tensor([[0, 7, 3]]), "got 3, 7"),
        (torch.tensor([[0.0, 1.0]]), "must be integers"),
        (torch.tensor([0, 1]), r"must be \(H, W\)"),
    ],
)
def test_broken_targets_are_refused(target, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        label_map(target)


MASKS = {"masks": torch.stack([LABELS == 0, LABELS == 1, LABELS == 255]), "labels": torch.tensor([0, 1, 255])}


class TwoCrops(Dataset[Sample]):
    """The same target for two images."""

    def __init__(self, target) -> None:
        self.target = target

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        return Sample(torch.full((3, *LABELS.shape), index, dtype=torch.uint8), self.target, f"crop {index}")

    def fingerprint(self) -> str:
        return "two crops"


def batch_of(samples: Dataset[Sample]) -> Sample:
    (batch,) = AnomalyData([samples], [samples]).val_dataloader()
    return batch


@pytest.mark.parametrize("wrap", [lambda samples: samples, Augmented], ids=["plain", "augmented"])
def test_both_forms_give_the_same_batch_and_loss(wrap) -> None:
    first, *others = (batch_of(wrap(TwoCrops(form))) for form in (LABELS, LABELS.long(), MASKS))
    logits = torch.randn(first.labels.shape, generator=torch.Generator().manual_seed(0))
    loss = anomaly_loss(logits, first.labels, 10.0)
    assert loss > 0
    assert first.labels.dtype == torch.uint8
    for batch in others:
        assert isinstance(batch, Sample)
        assert batch.image.equal(first.image)
        assert batch.labels.equal(first.labels)
        assert batch.labels.dtype == torch.uint8
        assert batch.key == first.key
        assert anomaly_loss(logits, batch.labels, 10.0) == loss


@pytest.mark.parametrize("wrap", [lambda samples: samples, Augmented], ids=["plain", "augmented"])
@pytest.mark.parametrize("target", [LABELS + 2 * (LABELS == 0), MASKS | {"labels": torch.tensor([2, 1, 255])}])
def test_foreign_labels_of_a_sample_are_named(wrap, target) -> None:
    with pytest.raises(DatasetError, match=r"crop 0: labels must be 0 \(normal\), 1 .* got 2: map other values"):
        batch_of(wrap(TwoCrops(target)))
