import logging
import sys
from collections.abc import Iterator

import pytest
import torch

from eomt_ext_core.config import HeadConfig
from eomt_ext_core.kernels.choice import obstacle_to_triton
from eomt_ext_core.scoring.anomaly_head import PixelAnomalyHead
from eomt_ext_core.scoring.head_scorer import make_head_scorer

HEAD = PixelAnomalyHead(4, HeadConfig(hidden_dim=16))
GPU = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What devices were found to run, before and after a test that pretends another one."""
    obstacle_to_triton.cache_clear()
    yield
    obstacle_to_triton.cache_clear()


def test_a_cpu_takes_pytorch_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        scorer = make_head_scorer(HEAD, torch.device("cpu"))
    assert scorer.name == "torch"
    assert scorer.reason == "Triton kernels need a CUDA device, this is cpu"
    assert caplog.messages == [f"anomaly head on cpu by torch: {scorer.reason}"]


def test_without_triton_a_gpu_takes_pytorch_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setitem(sys.modules, "triton", None)
    scorer = make_head_scorer(HEAD, GPU)
    assert scorer.name == "torch"
    assert scorer.reason.startswith("Triton cannot be imported")


def test_an_old_gpu_takes_pytorch_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    scorer = make_head_scorer(HEAD, GPU)
    assert scorer.name == "torch"
    assert scorer.reason == "Triton kernels need compute capability 8.0, this GPU has 7.5"


def test_a_gpu_with_triton_takes_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    scorer = make_head_scorer(HEAD, GPU)
    assert scorer.name == "triton"
    assert scorer.reason == "a GPU runs Triton kernels"
