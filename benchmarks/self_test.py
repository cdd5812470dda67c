"""Which faults of a model its known answer catches, and whether clean starts are ever refused.

``python benchmarks/self_test.py --starts 3``: each fault is put into the built-in model by itself and must fail the
self-test; then the model is started as it is, in every precision, stride and score here, and as an ONNX export.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from eomt_ext_core import AnomalyEngine, EngineConfig, EoMTExt, load_model
from eomt_ext_core.config import SCORES
from eomt_ext_core.errors import EomtExtError, InferenceError
from eomt_ext_core.export.export_config import ExportConfig
from eomt_ext_core.export.exporting import export_model

Change = Callable[[dict[str, Tensor]], None]

VIT = "network.encoder.backbone."
GRID_HW = 18, 32
DAMAGED = (
    f"{VIT}blocks.5.attn.qkv.weight", f"{VIT}blocks.0.attn.qkv.weight", f"{VIT}blocks.2.attn.proj.weight",
    f"{VIT}blocks.3.mlp.fc1.weight", f"{VIT}blocks.5.mlp.fc2.weight", f"{VIT}norm.weight", "network.q.weight",
    "network.class_head.weight", "network.mask_head.2.weight", "network.upscale.1.conv1.weight",
    "anomaly_head.mlp.3.weight", "anomaly_head.feature_proj.0.weight",
)  # fmt: skip


def changes() -> Mapping[str, Change]:
    """Give every fault of the weights by name."""
    mean, std = "network.encoder.pixel_mean", "network.encoder.pixel_std"
    positions, patches = f"{VIT}pos_embed", f"{VIT}patch_embed.proj.weight"
    qkv, proj = f"{VIT}blocks.1.attn.qkv", f"{VIT}blocks.1.attn.proj"
    found: dict[str, Change] = {
        "swapped channels": lambda state: state.update({patches: state[patches].flip(1)}),
        "mean 0.5": lambda state: state.update({mean: torch.full_like(state[mean], 0.5)}),
        "mean of the channels the other way round": lambda state: state.update({mean: state[mean].flip(1)}),
        "no normalisation": lambda state: state.update(
            {mean: torch.zeros_like(state[mean]), std: torch.ones_like(state[std])}
        ),
        "std of 0 to 255": lambda state: state.update({std: state[std] * 255}),
        "std 0.5": lambda state: state.update({std: torch.full_like(state[std], 0.5)}),
        "transposed positions": lambda state: state.update({positions: _grid(state[positions]).mT.flatten(2).mT}),
        "mirrored positions": lambda state: state.update({positions: _grid(state[positions]).flip(3).flatten(2).mT}),
        "positions one patch off": lambda state: state.update({positions: state[positions].roll(1, 1)}),
        "transposed patches": lambda state: state.update({patches: state[patches].mT.contiguous()}),
        "blocks in another order": lambda state: _swap(state, f"{VIT}blocks.1.", f"{VIT}blocks.2."),
        "q and k the other way round": lambda state: state.update({f"{qkv}.weight": _parts(state, qkv, (1, 0, 2))}),
        "q, k, v as v, q, k": lambda state: state.update({f"{qkv}.weight": _parts(state, qkv, (2, 0, 1))}),
        "no-object class first": lambda state: _roll(state, "network.class_head."),
        "no layer scale": lambda state: state.update(
            {f"{VIT}blocks.4.ls1.gamma": torch.ones_like(state[f"{VIT}blocks.4.ls1.gamma"])}
        ),
        "a flipped bit": lambda state: _set_one(state[f"{VIT}blocks.3.mlp.fc2.weight"], 1e8),
        "a bias gone": lambda state: state[f"{VIT}blocks.0.mlp.fc2.bias"].zero_(),
        "the head of another": lambda state: _noise(state, "anomaly_head."),
        "infinite weights": lambda state: _set_one(state["network.mask_head.4.weight"], float("inf")),
        f"{proj} halved": lambda state: state.update({f"{proj}.weight": state[f"{proj}.weight"] / 2}),
    }
    return found | {f"{key} damaged": _damage(key) for key in DAMAGED}


def _grid(positions: Tensor) -> Tensor:
    return positions.mT.reshape(1, -1, *GRID_HW)


def _swap(state: dict[str, Tensor], one: str, other: str) -> None:
    for key in [key for key in state if key.startswith(one)]:
        partner = other + key.removeprefix(one)
        state[key], state[partner] = state[partner].clone(), state[key].clone()


def _roll(state: dict[str, Tensor], prefix: str) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        state[key] = state[key].roll(1, 0)


def _parts(state: dict[str, Tensor], qkv: str, order: tuple[int, ...]) -> Tensor:
    parts = state[f"{qkv}.weight"].chunk(3)
    return torch.cat([parts[index] for index in order])


def _set_one(tensor: Tensor, value: float) -> None:
    tensor.view(-1)[tensor.numel() // 3] = value


def _noise(state: dict[str, Tensor], prefix: str) -> None:
    generator = torch.Generator().manual_seed(0)
    for key in [key for key in state if key.startswith(prefix)]:
        deviation = state[key].std(unbiased=False) + 1e-3
        state[key] = torch.randn(state[key].shape, generator=generator) * deviation


def _damage(key: str) -> Change:
    return lambda state: _noise(state, key)


def faulty_models(model: EoMTExt) -> Iterator[tuple[str, EoMTExt]]:
    """Give the model with each fault by itself."""
    for name, change in changes().items():
        state = {key: value.clone() for key, value in model.state_dict().items()}
        change(state)
        yield name, _rebuilt(model, state)
    turned = replace(model.config, crop_hw=model.config.crop_hw[::-1])
    yield "another window size", _rebuilt(model, dict(model.state_dict()), config=turned)
    heads = {**model.config.backbone_overrides, "num_heads": 6}
    yield (
        "another number of heads",
        _rebuilt(model, dict(model.state_dict()), config=replace(model.config, backbone_overrides=heads)),
    )
    fewer = replace(model.config, num_blocks=2)
    yield "another number of blocks with queries", _rebuilt(model, dict(model.state_dict()), config=fewer)


def _rebuilt(model: EoMTExt, state: dict[str, Tensor], config: object = None) -> EoMTExt:
    assert model.anomaly_head is not None
    other = EoMTExt(config or model.config, model.anomaly_head.config)  # type: ignore[arg-type]
    other.load_state_dict(state)
    other.info = model.info
    return other.eval()


def overflowing(model: EoMTExt) -> EoMTExt:
    """Give the model with values too large for fp16 inside, and the same answer in float32."""
    state = {key: value.clone() for key, value in model.state_dict().items()}
    for name in ("weight", "bias"):
        state[f"{VIT}blocks.2.attn.qkv.{name}"][2 * 192 :] *= 2**20
    state[f"{VIT}blocks.2.attn.proj.weight"] /= 2**20
    return _rebuilt(model, state)


def main() -> None:
    """Measure, and print a line for each fault and kind of start."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precisions", nargs="*", default=["fp32", "bf16"])
    parser.add_argument("--starts", type=int, default=1, help="of each clean kind")
    args = parser.parse_args()
    model = load_model("demo")
    for precision in args.precisions:
        caught = tried = 0
        for name, faulty in faulty_models(model):
            outcome = _start(faulty, EngineConfig(device="cpu", precision=precision))
            caught, tried = caught + bool(outcome), tried + 1
            print(f"{precision}, {name}: {outcome or 'NOT CAUGHT'}", flush=True)
        print(f"{precision}: {caught} of {tried} faults caught", flush=True)
    fragile = overflowing(model)
    for precision in ("fp32", "fp16"):
        outcome = _start(fragile, EngineConfig(device="cpu", precision=precision))
        print(f"overflow in fp16, run in {precision}: {outcome or 'passed'}")
    refused = started = 0
    kinds = itertools.product(("fp32", "bf16", "fp16"), (1, 2, 4), SCORES)
    for precision, stride, score in list(kinds) * args.starts:
        config = EngineConfig(device="cpu", precision=precision, score_stride=stride, score=score)
        refused, started = refused + bool(_start(model, config)), started + 1
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("fp32", "fp16"):
            path = Path(folder) / f"{precision}.onnx"
            export_model(model, path, ExportConfig(format="onnx", precision=precision))
            config = EngineConfig(device="cpu", backend="onnxruntime")
            started_s = time.perf_counter()
            told = AnomalyEngine.load(path, config).describe()["self_test"]
            started += 1
            print(f"onnxruntime {precision}: {told}; start and test {time.perf_counter() - started_s:.2f} s")
    print(f"clean starts: {refused} of {started} refused")


def _start(model: EoMTExt, config: EngineConfig) -> str:
    """Why an engine is refused, or empty."""
    try:
        AnomalyEngine(model, config).self_test()
    except InferenceError as error:
        return str(error).partition(". Score")[0]
    except EomtExtError as error:
        return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    main()
