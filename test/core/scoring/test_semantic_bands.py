import pytest
import torch

from eomt_ext_core.scoring.semantic_bands import semantic_bands
from eomt_ext_core.scoring.uncertainty import semantic_map

QUERIES, CLASSES = 7, 5


@pytest.mark.parametrize("size_hw", [(50, 71), (16, 24), (13, 9), (1, 1)])
@pytest.mark.parametrize(("rows", "bands_of_fifty"), [(1, 50), (7, 8), (49, 2), (1000, 1)])
def test_bands_put_together_are_the_whole_map(size_hw: tuple[int, int], rows: int, bands_of_fifty: int) -> None:
    generator = torch.Generator().manual_seed(0)
    masks = 6 * torch.randn(2, QUERIES, 16, 24, generator=generator)
    classes = 4 * torch.randn(2, QUERIES, CLASSES + 1, generator=generator)
    expected = semantic_map(masks, classes, size_hw)
    bands = list(semantic_bands(masks, classes, size_hw, rows))
    found = torch.full_like(expected, torch.nan)
    for where, band in bands:
        found[:, :, where] = band.permute(0, 3, 1, 2)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    if size_hw[0] == 50:
        assert len(bands) == bands_of_fifty
