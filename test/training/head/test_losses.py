import pytest
import torch
from eomt_ext_training.head.losses import anomaly_loss, pixel_losses
from torch.nn import functional as F


def test_value_of_torch_itself() -> None:
    logits, labels = torch.randn(3, 4, 5), torch.randint(2, (3, 4, 5))
    expected = F.binary_cross_entropy_with_logits(logits, labels.float(), pos_weight=torch.tensor(10.0))
    assert anomaly_loss(logits, labels, 10.0).item() == pytest.approx(expected.item(), rel=1e-6)


def test_void_contributes_exactly_nothing() -> None:
    labels = torch.tensor([[0, 1, 255, 255, 255]])
    results = []
    for void_logits in ([0.0, 0.0, 0.0], [1e30, -1e30, 5.0], [float("nan"), float("inf"), -float("inf")]):
        logits = torch.tensor([[0.7, -0.2, *void_logits]], requires_grad=True)
        loss = anomaly_loss(logits, labels, 10.0)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert gradient[0, 2:].tolist() == [0.0, 0.0, 0.0]
        results.append((loss.item(), gradient[0, :2].tolist()))
    assert results[0] == results[1] == results[2]
    without = torch.tensor([[0.7, -0.2]])
    assert results[0][0] == anomaly_loss(without, labels[:, :2], 10.0).item()


def test_nothing_valid_is_zero_and_not_nan() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    loss = anomaly_loss(logits, torch.full((2, 3), 255), 10.0)
    loss.backward()
    assert loss.item() == 0.0
    assert (logits.grad == 0).all()


def test_labels_are_not_clamped_into_anomalies() -> None:
    losses = pixel_losses(torch.zeros(3), torch.tensor([0, 1, 255]), 10.0)
    torch.testing.assert_close(losses, torch.tensor([0.6931472, 6.931472, 0.0]))
