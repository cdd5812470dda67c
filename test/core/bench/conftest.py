"""A model small enough to measure in a moment, with every parameter at work."""

from collections.abc import Callable

import pytest

from eomt_ext_core import EoMTExt, HeadConfig


@pytest.fixture
def small_model(tiny_model: Callable[..., EoMTExt]) -> EoMTExt:
    return tiny_model(HeadConfig(hidden_dim=16, feature_proj_dim=None), crop_hw=(64, 64))
