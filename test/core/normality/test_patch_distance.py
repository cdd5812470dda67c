"""The whitened distance to the nearest prototype."""

import numpy as np
import pytest
import torch

from eomt_ext_core.normality.patch_distance import PatchDistance, learn_distance


def test_one_prototype_is_the_mahalanobis_distance() -> None:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.tensor([[2.0, 0.0], [1.0, 0.5]])
    patches = torch.randn(20_000, 2, generator=generator) @ mixing.T + torch.tensor([3.0, -1.0])
    probe = torch.tensor([[4.0, -1.0], [3.0, 1.0]])
    offset = probe.numpy() - [3.0, -1.0]
    expected = np.sqrt(np.einsum("ni,ij,nj->n", offset, np.linalg.inv((mixing @ mixing.T).numpy()), offset))
    # shrunk by a hundredth of the mean variance, most along the direction that varies least
    assert learn_distance(patches, 1).of_patches(probe).numpy() == pytest.approx(expected, rel=0.08)


def test_the_nearest_prototype_counts() -> None:
    distance = PatchDistance(torch.eye(2), torch.tensor([[0.0, 0.0], [10.0, 0.0]]))
    features = torch.tensor([[3.0, 4.0], [10.0, 2.0]]).T.reshape(1, 2, 1, 2)
    torch.testing.assert_close(distance(features), torch.tensor([[[[5.0, 2.0]]]]))


def test_what_was_seen_is_nearer_than_what_was_not() -> None:
    generator = torch.Generator().manual_seed(0)
    kinds = torch.tensor([[10.0, 0, 0, 0], [0, 10.0, 0, 0], [0, 0, 10.0, 0]])
    patches = kinds.repeat(300, 1) + torch.randn(900, 4, generator=generator)
    near, far = learn_distance(patches).of_patches(torch.tensor([[0.0, 10, 0, 0], [0, 0, 0, 10.0]]))
    assert 4 * near < far


def test_fewer_patches_than_channels_still_give_finite_distances() -> None:
    patches = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    assert learn_distance(patches).of_patches(torch.randn(3, 64)).isfinite().all()
