import pytest

from eomt_ext_core import ConfigError
from eomt_ext_core.export.providers import check_provider, choose_providers

TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"


@pytest.mark.parametrize(
    ("device", "available", "expected"),
    [
        ("auto", [TENSORRT, CUDA, CPU], [TENSORRT, CUDA, CPU]),
        ("auto", [CPU, CUDA], [CUDA, CPU]),
        ("auto", ["AzureExecutionProvider", CPU], [CPU]),
        ("cpu", [TENSORRT, CUDA, CPU], [CPU]),
        ("cuda", [CPU, CUDA, TENSORRT], [TENSORRT, CUDA]),
        ("cuda:3", [CUDA, CPU], [CUDA]),
    ],
)
def test_the_fastest_that_is_there(device: str, available: list[str], expected: list[str]) -> None:
    providers = choose_providers(device, available)
    assert [name for name, _ in providers] == expected
    index = "3" if device == "cuda:3" else "0"
    assert all(options == ({} if name == CPU else {"device_id": index}) for name, options in providers)


def test_a_gpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ConfigError, match="CPUExecutionProvider: install onnxruntime-gpu"):
        choose_providers("cuda", [CPU])
    with pytest.raises(ConfigError, match="did not start, onnxruntime fell back to CPUExecutionProvider"):
        check_provider("cuda:0", [TENSORRT, CUDA], [CPU])


def test_which_is_in_use_is_told() -> None:
    assert check_provider("cuda", [TENSORRT, CUDA], [CUDA, CPU]) == CUDA
    assert check_provider("auto", [CUDA, CPU], [CPU]) == CPU
