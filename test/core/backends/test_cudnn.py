import pytest
import torch

from eomt_ext_core.backends.cudnn import cudnn_settings

NAMES = ("enabled", "benchmark", "deterministic", "allow_tf32")


def settings() -> dict[str, bool]:
    return {name: getattr(torch.backends.cudnn, name) for name in NAMES}


def test_only_named_settings_change_and_are_restored() -> None:
    before = settings()
    assert before["enabled"]
    with cudnn_settings(benchmark=True):
        assert settings() == {**before, "benchmark": True}
        with cudnn_settings(allow_tf32=False):
            assert settings() == {**before, "benchmark": True, "allow_tf32": False}
    assert settings() == before


def test_it_is_put_back_after_a_failure() -> None:
    before = settings()
    with pytest.raises(KeyError), cudnn_settings(benchmark=True, allow_tf32=False):
        raise KeyError
    assert settings() == before
