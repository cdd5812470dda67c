import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from eomt_ext_core.scoring.bilinear import BilinearRows


def interpolate(source: torch.Tensor, target_hw: tuple[int, int]) -> torch.Tensor:
    resized = F.interpolate(source.permute(0, 3, 1, 2), target_hw, mode="bilinear", align_corners=False)
    return resized.permute(0, 2, 3, 1)


@settings(max_examples=150, deadline=None)
@given(
    source_hw=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    target_hw=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    batch=st.integers(1, 3),
    channels=st.integers(1, 5),
    band=st.integers(1, 70),
)
def test_bands_of_rows_are_those_of_interpolate(
    source_hw: tuple[int, int], target_hw: tuple[int, int], batch: int, channels: int, band: int
) -> None:
    source = torch.randn(batch, *source_hw, channels, generator=torch.Generator().manual_seed(channels))
    before = source.clone()
    rows = BilinearRows(source, target_hw)
    bands = [rows(start, min(start + band, target_hw[0])) for start in range(0, target_hw[0], band)]
    assert torch.equal(source, before)
    torch.testing.assert_close(torch.cat(bands, dim=1), interpolate(source, target_hw), atol=1e-5, rtol=0)


def test_result_does_not_share_memory_with_source() -> None:
    source = torch.randn(1, 4, 4, 2)
    before = source.clone()
    BilinearRows(source, (4, 4))(0, 4).zero_()
    assert torch.equal(source, before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_type_of_the_source_is_kept(dtype: torch.dtype) -> None:
    source = torch.randn(1, 3, 5, 2, dtype=torch.float64).to(dtype)
    rows = BilinearRows(source, (7, 11))(2, 6)
    assert rows.dtype == dtype
    tolerance = 1e-6 if dtype == torch.float64 else 0.05
    torch.testing.assert_close(rows, interpolate(source, (7, 11))[:, 2:6], atol=tolerance, rtol=0)
