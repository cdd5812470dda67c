from pathlib import Path

import pytest

from eomt_ext_core import ConfigError
from eomt_ext_core.runtimes.providers import Providers, check_provider, choose_providers, device_of, start_first

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
def test_the_fastest_that_is_there(
    device: str, available: list[str], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    providers = choose_providers(device, available, "fp32")
    assert [name for name, _ in providers] == expected
    index = "3" if device == "cuda:3" else "0"
    assert all(options.get("device_id") == (None if name == CPU else index) for name, options in providers)
    assert all(len(options) == 1 for name, options in providers if name == CUDA)


@pytest.mark.parametrize(("precision", "half"), [("fp32", "False"), ("fp16", "True")])
def test_tensorrt_keeps_its_engines_and_computes_as_the_file_does(
    precision: str, half: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    (_, options), _ = choose_providers("cuda:1", [TENSORRT, CUDA, CPU], precision)
    assert options == {
        "device_id": "1",
        "trt_fp16_enable": half,
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(tmp_path / "caches" / "eomt_ext" / "tensorrt"),
    }
    assert Path(options["trt_engine_cache_path"]).is_dir()


@pytest.mark.parametrize("is_homeless", [False, True])
def test_where_nothing_can_be_kept_it_is_said(
    is_homeless: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if is_homeless:
        for variable in ("XDG_CACHE_HOME", "HOME"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    else:
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    ((_, options),) = choose_providers("cuda", [TENSORRT], "fp32")
    assert options == {"device_id": "0", "trt_fp16_enable": "False"}
    assert "models are compiled at every start" in caplog.messages[0]


PROVIDERS = [(TENSORRT, {"device_id": "1"}), (CUDA, {"device_id": "1"}), (CPU, {})]


@pytest.mark.parametrize("broken", [set(), {TENSORRT}, {TENSORRT, CUDA}])
def test_what_follows_a_provider_that_fails_keeps_its_options(
    broken: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    def start(providers: Providers) -> Providers:
        if providers[0][0] in broken:
            raise RuntimeError(f"{providers[0][0]} has no library\nmore of that")
        return providers

    assert list(start_first(PROVIDERS, start)) == PROVIDERS[len(broken) :]
    assert len(caplog.messages) == len(broken)
    if broken:
        assert caplog.messages[0] == f"{TENSORRT} did not start: {TENSORRT} has no library; trying {CUDA}"


def test_where_none_starts_it_is_an_error() -> None:
    def start(providers: Providers) -> None:
        raise RuntimeError("CUDA failure 101: invalid device ordinal")

    with pytest.raises(ConfigError, match="CUDAExecutionProvider did not start: CUDA failure 101: invalid device ord"):
        start_first(PROVIDERS[:2], start)


def test_a_gpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ConfigError, match="CPUExecutionProvider: install onnxruntime-gpu"):
        choose_providers("cuda", [CPU], "fp32")
    with pytest.raises(ConfigError, match="did not start, onnxruntime fell back to CPUExecutionProvider"):
        check_provider("cuda:0", [TENSORRT, CUDA], [CPU])


def test_the_device_is_that_of_the_provider_in_use() -> None:
    assert device_of(CUDA, "cuda:1") == device_of(TENSORRT, "cuda:1") == "cuda:1"
    assert device_of(CUDA, "auto") == device_of(CUDA, "cuda") == "cuda:0"
    assert device_of(CPU, "auto") == "cpu"


def test_which_is_in_use_is_told() -> None:
    assert check_provider("cuda", [TENSORRT, CUDA], [CUDA, CPU]) == CUDA
    assert check_provider("auto", [CUDA, CPU], [CPU]) == CPU
