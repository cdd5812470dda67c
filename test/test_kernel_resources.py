"""What the Triton kernels take of a GPU, from their compilation alone: Triton and its assembler need no GPU for it.

The compiler refuses what the interpreter lets pass, and what it takes decides how many programs share a multiprocessor.
The whole table is made by ``benchmarks/gpu.py --parts resources``.
"""

import importlib
from pathlib import Path

import pytest

triton = pytest.importorskip("triton")


@pytest.fixture(scope="module")
def resources(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).resolve().parents[1]))
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        yield importlib.import_module("benchmarks.gpu_parts.resources")


# Ampere, Hopper and Blackwell, which differ in their products; the benchmark compiles for all
@pytest.mark.parametrize(
    ("architecture", "product", "most_spilled"),
    [(80, "mma", 128), (90, "wgmma", 0), (100, "tcgen05", 64)],
)
def test_scoring_runs_on_the_tensor_cores_with_few_registers(resources, architecture, product, most_spilled):
    case = dict(resources.cases())["score_pixels, bf16, tile 0"]
    taken = resources.compile_for(case, architecture)
    assert (taken.product, taken.tf32) == (product, False)
    assert taken.registers <= 128
    assert taken.spilled <= most_spilled
    assert taken.shared <= 32 * 1024  # several programs on a multiprocessor


@pytest.mark.parametrize(("architecture", "product"), [(90, "wgmma")])
def test_two_programs_of_the_lean_kernel_share_a_multiprocessor(resources, architecture, product):
    taken = resources.compile_for(dict(resources.cases())["score_pixels_lean, bf16, 8×8"], architecture)
    assert (taken.product, taken.spilled) == (product, 0)
    assert taken.shared <= 96 * 1024


@pytest.mark.parametrize(
    ("kernel", "product"), [("embed_patches", "wgmma"), ("add_and_normalise", "fma"), ("mix_and_normalise", "fma")]
)
def test_the_network_s_kernels_fit_into_registers(resources, kernel, product):
    taken = resources.compile_for(dict(resources.cases())[kernel], 90)
    assert (taken.product, taken.spilled, taken.tf32) == (product, 0, False)
    assert taken.shared <= 100 * 1024  # two programs on a multiprocessor


def test_the_class_map_compiles(resources):
    assert resources.compile_for(dict(resources.cases())["best_classes"], 87).spilled == 0


def test_float32_is_never_tf32(resources):
    taken = resources.compile_for(dict(resources.cases())["score_pixels, fp32"], 90)
    assert (taken.product, taken.tf32) == ("fma", False)
