"""A model that answers otherwise than where it was made is refused, and what differs is named."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from eomt_ext_core import AnomalyEngine, CheckpointError, EngineConfig, EoMTExt, HeadConfig, load_model, save_model
from eomt_ext_core.engine.probing import make_probe
from eomt_ext_core.engine.self_test import check_known_answer
from eomt_ext_core.errors import InferenceError
from eomt_ext_core.runtimes.contents import ExportContents
from eomt_ext_core.scoring.probe import GRID_HW, Probe

CPU = EngineConfig(device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def demo() -> EoMTExt:
    return load_model("demo")


def changed(model: EoMTExt, change: Callable[[dict[str, torch.Tensor]], Any], **config: Any) -> EoMTExt:
    """A copy of a model with other weights, or another architecture, that claims to be the same."""
    assert model.anomaly_head is not None
    state = {key: value.clone() for key, value in model.state_dict().items()}
    change(state)
    other = EoMTExt(replace(model.config, **config), model.anomaly_head.config)
    other.load_state_dict(state)
    other.info = model.info
    return other.eval()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("score", ["head", "rba"])
def test_the_built_in_model_answers_as_it_did(demo: EoMTExt, precision: str, score: str) -> None:
    assert AnomalyEngine(demo, replace(CPU, precision=precision, score=score)).self_test().startswith("passed, ")


def test_a_stride_is_allowed_to_blur(demo: EoMTExt) -> None:
    for score in ("head", "energy"):
        assert AnomalyEngine(demo, replace(CPU, score_stride=4, score=score)).self_test().startswith("passed")


MEAN, PATCHES = "network.encoder.pixel_mean", "network.encoder.backbone.patch_embed.proj.weight"
POSITIONS = "network.encoder.backbone.pos_embed"
FAULTS: dict[str, tuple[Callable[[dict[str, torch.Tensor]], Any], str]] = {
    "swapped channels": (lambda state: state.update({PATCHES: state[PATCHES].flip(1)}), "channel order"),
    "mean of 0 to 255": (lambda state: state[MEAN].mul_(255), "weights, normalisation or arithmetic"),
    "damaged tensor": (lambda state: state["network.q.weight"].normal_(), "weights, normalisation or arithmetic"),
    "transposed positions": (
        lambda state: state.update({POSITIONS: state[POSITIONS].reshape(1, 18, 32, -1).mT.reshape(1, 576, -1)}),
        "weights, normalisation or arithmetic",
    ),
    "infinite weight": (lambda state: state["network.class_head.bias"].fill_(float("nan")), "non-finite, 240 of 240"),
    "another scale": (
        lambda state: [state[f"anomaly_head.mlp.6.{name}"].mul_(3) for name in ("weight", "bias")],
        "scale, the scores are 3 times",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_model_is_named(demo: EoMTExt, fault: str) -> None:
    change, name = FAULTS[fault]
    with pytest.raises(InferenceError, match=rf"self-test failed \(precision fp32, torch, cpu\): {name}"):
        AnomalyEngine(changed(demo, change), CPU).self_test()


def test_another_window_is_named(demo: EoMTExt) -> None:
    with pytest.raises(InferenceError, match="made for windows of 512×288, and runs with 288×512"):
        AnomalyEngine(changed(demo, lambda state: None, crop_hw=(512, 288)), CPU).self_test()


def test_what_overflows_in_fp16_runs_in_fp32(demo: EoMTExt) -> None:
    def enlarge(state: dict[str, torch.Tensor]) -> None:
        block = "network.encoder.backbone.blocks.2.attn."
        for name in ("weight", "bias"):
            state[f"{block}qkv.{name}"][2 * 192 :] *= 2**20
        state[f"{block}proj.weight"] /= 2**20

    fragile = changed(demo, enlarge)
    assert AnomalyEngine(fragile, CPU).self_test().startswith("passed")
    with pytest.raises(InferenceError, match="non-finite"):
        AnomalyEngine(fragile, replace(CPU, precision="fp16")).self_test()


def test_a_file_carries_its_probe_if_it_is_given(tiny_model: Callable[..., EoMTExt], tmp_path: Path) -> None:
    model, path = tiny_model(HeadConfig(16, 0.3, 8)), tmp_path / "model.safetensors"
    save_model(model, path)
    unknown = AnomalyEngine.load(path, CPU).describe()["self_test"]
    assert unknown.startswith("none, the model has no known answer for score head")
    save_model(model, path, make_probe(model))
    assert AnomalyEngine.load(path, CPU).describe()["self_test"].startswith("passed")
    save_model(load_model(path), path)
    assert "probe" not in load_model(path).info, "its weights may have changed: it is written only if given"


def test_another_head_or_window_takes_its_part_of_the_probe_away(
    tiny_model: Callable[..., EoMTExt], tmp_path: Path
) -> None:
    model, path = tiny_model(HeadConfig(16, 0.3, 8)), tmp_path / "model.safetensors"
    save_model(model, path, make_probe(model))
    save_model(tiny_model(HeadConfig(8, 0.3, None), seed=1), tmp_path / "head.safetensors")
    other = load_model(path, head=tmp_path / "head.safetensors")
    assert AnomalyEngine(other, CPU).self_test().startswith("none")
    assert AnomalyEngine(other, replace(CPU, score="rba")).self_test().startswith("passed")
    assert "probe" not in load_model(path, {"crop_hw": (96, 64)}).info


def test_a_model_that_answers_otherwise_gets_no_new_probe(demo: EoMTExt) -> None:
    with pytest.raises(InferenceError, match="self-test failed"):
        make_probe(changed(demo, lambda state: state[MEAN].mul_(2)))


def test_a_constant_answer_is_compared_by_its_size() -> None:
    constant = np.full(GRID_HW, 5.0)
    scorer: Any = SimpleNamespace(
        precision="fp32",
        device=torch.device("cpu"),
        crop_hw=(16, 16),
        info={"probe": Probe((16, 16), np.zeros((4, 4, 3), np.uint8), {"rba": constant}).to_json()},
        describe=lambda: {"backend": "torch", "score_stride": "1"},
    )
    assert check_known_answer(scorer, "rba", lambda image: constant).startswith("passed")
    with pytest.raises(InferenceError, match="self-test failed"):
        check_known_answer(scorer, "rba", lambda image: constant + 1)


@pytest.mark.parametrize(
    ("backend", "device"), [("torch", "cuda:0"), ("onnxruntime", "cpu"), ("onnxruntime", "cuda:0")]
)
def test_tf32_is_allowed_where_onnxruntime_uses_it(backend: str, device: str) -> None:
    expected = np.arange(240.0).reshape(GRID_HW)
    scorer: Any = SimpleNamespace(
        precision="fp32",
        device=torch.device("cpu"),
        crop_hw=(16, 16),
        info={"probe": Probe((16, 16), np.zeros((4, 4, 3), np.uint8), {"rba": expected}).to_json()},
        describe=lambda: {"backend": backend, "device": device, "score_stride": "1"},
    )
    found = expected + 0.003 * expected.std()
    if (backend, device) == ("onnxruntime", "cuda:0"):
        assert check_known_answer(scorer, "rba", lambda image: found).startswith("passed")
    else:
        with pytest.raises(InferenceError, match=rf"self-test failed \(precision fp32, {backend}, {device}\)"):
            check_known_answer(scorer, "rba", lambda image: found)


GOOD = Probe((16, 32), np.zeros((4, 8, 3), np.uint8), {"head": np.arange(240.0).reshape(GRID_HW)}).to_json()


def test_a_probe_comes_back_from_an_export_as_it_was() -> None:
    contents = ExportContents((16, 32), 5, ("head",), "fp32", 1, 0, {"probe": GOOD}, {})
    probe = Probe.of(ExportContents.of(contents.to_metadata()).info)
    assert probe is not None
    assert (probe.crop_hw, probe.image_rgb.shape) == ((16, 32), (4, 8, 3))
    np.testing.assert_array_equal(probe.scores["head"], np.arange(240.0).reshape(GRID_HW))


@pytest.mark.parametrize(
    "hostile",
    [
        "text", None, [], {}, {**GOOD, "crop_hw": [16]}, {**GOOD, "crop_hw": ["a", "b"]}, {**GOOD, "crop_hw": [0, 0]},
        {**GOOD, "crop_hw": [1 << 30, 1 << 31]}, {**GOOD, "image": []}, {**GOOD, "image": ["&&&&"] * 4},
        {**GOOD, "image": GOOD["image"][:3]}, {**GOOD, "image": ["AAAA"] * 4}, {**GOOD, "image": [1, 2]},
        {**GOOD, "image": ["AAAA"] * 70_000}, {**GOOD, "scores": {}}, {**GOOD, "scores": {"head": [1.0]}},
        {**GOOD, "scores": {"nonsense": GOOD["scores"]["head"]}}, {**GOOD, "scores": {"head": [1e30] * 240}},
        {**GOOD, "scores": {"head": ["x"] * 240}}, {**GOOD, "scores": 7},
    ],
)  # fmt: skip
def test_a_hostile_probe_is_refused(hostile: Any) -> None:
    with pytest.raises(CheckpointError, match="its probe"):
        Probe.of({"probe": hostile})
