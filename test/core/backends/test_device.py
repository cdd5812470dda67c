from pathlib import Path

import pytest
import torch

from eomt_ext_core import ConfigError
from eomt_ext_core.backends import device
from eomt_ext_core.backends.device import choose_device, choose_optimize, choose_precision, device_name, limit_threads

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(("multiplies", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_is_what_the_cpu_multiplies_in(
    monkeypatch: pytest.MonkeyPatch, multiplies: bool, expected: str
) -> None:
    monkeypatch.setattr(device, "multiplies_bf16", lambda: multiplies)
    assert choose_precision("auto", CPU) == expected
    assert choose_precision("fp16", CPU) == "fp16"


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "fp16"), ((8, 0), "bf16"), ((12, 0), "bf16")])
def test_auto_precision_is_what_the_gpu_multiplies_in(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_precision("auto", GPU) == expected
    assert choose_precision("fp32", GPU) == "fp32"


@pytest.mark.parametrize("name", ["foo", "cuda:x", ""])
def test_a_device_has_a_known_name(name: str) -> None:
    with pytest.raises(ConfigError, match=f"device must be auto, cpu, cuda or cuda:N, got '{name}'"):
        choose_device(name)


def test_graphs_are_for_gpus() -> None:
    assert [choose_optimize("auto", where) for where in (CPU, GPU)] == ["none", "graph"]
    assert choose_optimize("compile", CPU) == "compile"
    with pytest.raises(ConfigError, match="optimize graph needs a CUDA device, got cpu: choose auto, none or compile"):
        choose_optimize("graph", CPU)


def test_the_cpu_has_a_name() -> None:
    assert device_name(CPU)


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000\n", 4),
        ("200000 100000\n", 2),
        ("50000 100000\n", 1),
        ("900000 100000\n", 4),
        ("damaged", 4),
        (None, 4),
    ],
)
def test_threads_are_lowered_to_the_quota_and_never_raised(tmp_path: Path, quota: str | None, expected: int) -> None:
    file = tmp_path / "cpu.max"
    if quota is not None:
        file.write_text(quota)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        limit_threads(file)
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)
