import pytest

from eomt_ext_core.bench.config import QUICK, BenchConfig, parse_sizes
from eomt_ext_core.errors import ConfigError


def test_a_checkpoint_takes_the_place_of_the_random_models() -> None:
    assert BenchConfig(sizes=("small", "large")).models == ("small", "large")
    assert BenchConfig(checkpoint="demo").models == ("demo",)


def test_ways_of_ours_are_to_be_asked_for() -> None:
    assert "ours-compile-bf16" not in BenchConfig().variants
    assert BenchConfig(variants=("ours-compile-bf16", "ours-none-fp32")).variants[0] == "ours-compile-bf16"


def test_quick_asks_for_less() -> None:
    assert len(QUICK.images_hw) < len(BenchConfig().images_hw)
    assert max(QUICK.growth_hw) < max(BenchConfig().growth_hw)


@pytest.mark.parametrize("text", ["960×540, 1920X1080", "960x540,1920x1080,"])
def test_image_sizes_are_width_by_height(text: str) -> None:
    assert parse_sizes(text) == ((540, 960), (1080, 1920))


@pytest.mark.parametrize("text", ["960", "960x", "x540", "0x540", "-1x5", "960x540x3", "9.6x5", "a x b"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"width x height in pixels, such as 960x540, got"):
        parse_sizes(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": ("huge",)}, "sizes must be some of small, base, large, got huge"),
        ({"sizes": ()}, "sizes must be some of small, base, large, got none"),
        ({"variants": ("ours",)}, "variants must be some of literal-fp32, .*, got ours"),
        ({"images_hw": ()}, "images must name at least one size"),
        ({"growth_model": "m.onnx"}, "growth_model must be a checkpoint, got the exported file m.onnx"),
        ({"backend": "openvino"}, "backend must be auto or torch for a checkpoint, got openvino"),
        ({"checkpoint": "m.onnx", "backend": "torch"}, "must be auto or onnxruntime or openvino for m.onnx, got torch"),
        ({"checkpoint": "m.pt2", "backend": "openvino"}, "backend must be auto for m.pt2, got openvino"),
        ({"precision": "fp32"}, "precision is of an exported file, got fp32: variants name that of a model"),
        ({"device": "gpu"}, "device must be auto, cpu, cuda or cuda:N, got 'gpu'"),
        ({"checkpoint": "m.onnx", "growth_model": "base"}, "growth_model must be none with .* m.onnx, got base"),
        ({"repeats": -1}, "repeats must be at least 0, got -1"),
    ],
)
def test_broken_rules_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BenchConfig(**changes)  # type: ignore[arg-type]
