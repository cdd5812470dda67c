"""Network and head are trained together, and an interrupted training goes on as if it had not been."""

from pathlib import Path

import numpy as np
import pytest
import torch
from eomt_ext_training.built_in import command
from eomt_ext_training.built_in.joint_loss import JointLoss, head_loss, outlier_weights
from eomt_ext_training.built_in.plan import Plan
from eomt_ext_training.built_in.training import Averaged, JointTraining, train_together
from eomt_ext_training.data.sample import OUTLIER, VOID, SemanticSample
from torch import Tensor

from eomt_ext_core import AnomalyEngine, CheckpointError, EngineConfig, EoMTExt, ModelConfig, load_model
from eomt_ext_core.config import SCORES, HeadConfig
from eomt_ext_core.model.checkpoint import resolve_source

CROP_HW = (64, 96)
LOSS = JointLoss(head=1.0, typical_px=100.0)


class Squares:
    """Grey ground with a bright square that is none of the classes."""

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> SemanticSample:
        rng = np.random.default_rng(index)
        image = rng.integers(60, 120, (3, *CROP_HW)).astype(np.uint8)
        semantic = np.zeros(CROP_HW, np.uint8)
        semantic[:20] = 1
        image[2, :20] = 250
        top, left = rng.integers(20, 45), rng.integers(0, 75)
        image[:, top : top + 16, left : left + 16] = 255
        semantic[top : top + 16, left : left + 16] = OUTLIER
        return SemanticSample(torch.from_numpy(image), torch.from_numpy(semantic))


def tiny(seed: int = 3) -> EoMTExt:
    torch.manual_seed(seed)
    overrides = {"embed_dim": 32, "depth": 2, "num_heads": 2, "init_values": 0.5}
    config = ModelConfig("vit_small_patch14_reg4_dinov2", CROP_HW, num_queries=2, num_classes=2, num_blocks=1,
                         backbone_overrides=overrides)  # fmt: skip
    return EoMTExt(config, HeadConfig(hidden_dim=16, feature_proj_dim=8, dropout=0.1))


def scores(model: EoMTExt) -> tuple[Tensor, Tensor]:
    """Probabilities of outlier and other pixels of images never trained on."""
    engine = AnomalyEngine(model, EngineConfig(device="cpu", precision="fp32"))
    samples = [Squares()[index] for index in range(990, 996)]
    found = [torch.from_numpy(engine.infer(s.image.permute(1, 2, 0).numpy().copy()).probability) for s in samples]
    outlier = torch.stack([s.semantic == OUTLIER for s in samples])
    return torch.stack(found)[outlier], torch.stack(found)[~outlier]


def test_training_finds_the_outliers(tmp_path: Path) -> None:
    config = JointTraining(steps=60, batch_size=4, lr=1e-2, warmup_steps=5, averaging=0.8, loss=LOSS)
    exported: list[int] = []
    model = train_together(
        tiny(), Squares(), config, tmp_path / "state", save_every=30, on_save=lambda step, _: exported.append(step)
    )
    outliers, others = scores(model)
    assert outliers.quantile(0.2) > others.quantile(0.8)
    assert exported == [30, 60]


def test_resumed_training_equals_uninterrupted(tmp_path: Path) -> None:
    config = JointTraining(steps=6, batch_size=2, lr=1e-3, warmup_steps=2, loss=LOSS)
    whole = train_together(tiny(), Squares(), config, tmp_path / "whole").state_dict()

    def stop(step: int, model: EoMTExt) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_together(tiny(), Squares(), config, tmp_path / "state", save_every=4, on_save=stop)
    resumed = train_together(tiny(seed=9), Squares(), config, tmp_path / "state").state_dict()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_the_state_of_another_training_is_refused(tmp_path: Path) -> None:
    config = JointTraining(steps=1, batch_size=2, loss=LOSS)
    train_together(tiny(), Squares(), config, tmp_path / "state")
    with pytest.raises(CheckpointError, match="of another training"):
        train_together(tiny(), Squares(), JointTraining(steps=2, batch_size=2, loss=LOSS), tmp_path / "state")


def test_small_outliers_weigh_more() -> None:
    semantic = torch.zeros((1, 64, 64), dtype=torch.uint8)
    semantic[0, :5, :5] = semantic[0, 20:60, 20:60] = OUTLIER
    semantic[0, 10:20, 0:10] = OUTLIER
    weights = outlier_weights(semantic, LOSS)[0]
    assert weights[0, 0] == pytest.approx(10 * 2)
    assert weights[15, 5] == pytest.approx(10)
    assert weights[30, 30] == pytest.approx(10 * 0.5)
    assert weights[0, 30] == 0
    assert weights.count_nonzero() == 25 + 100 + 1600


def test_the_head_teaches_the_features_and_void_teaches_nothing() -> None:
    model = tiny().requires_grad_(True)
    assert model.anomaly_head is not None
    sample = Squares()[0]
    semantic = sample.semantic[None].clone()
    prediction = model.network(sample.image[None].float() / 255)
    loss = head_loss(model.anomaly_head.eval(), prediction, semantic, LOSS)
    loss.backward()  # type: ignore[no-untyped-call]
    patch_embedding = model.network.encoder.backbone.patch_embed.proj.weight.grad
    assert patch_embedding is not None
    assert patch_embedding.abs().sum() > 0
    assert model.network.class_head.weight.grad is None
    nothing = torch.full_like(semantic, VOID)
    assert head_loss(model.anomaly_head, prediction, nothing, LOSS) == 0


def test_the_average_leaves_the_start_soon() -> None:
    weights = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(weights.weight, 100.0)
    averaged = Averaged(weights, 0.9)
    torch.nn.init.constant_(weights.weight, 0.0)
    for step in range(50):
        averaged.update(weights, step)
    assert averaged.state["weight"].item() < 1.0


def test_command_resumes_and_saves_a_model(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = ["--quick", "--output", str(folder / "demo.safetensors"), "--cache", str(tmp_path / "scenes")]
    folder.mkdir()
    (folder / "demo.safetensors").write_bytes(b"earlier")
    command.main([*arguments, "--workers", "0", "--run", "2"])  # one run of the last stage alone
    names = {path.name for path in folder.iterdir()}
    assert {"stage1.safetensors", "stage1-1.state", "stage2-2.state", "stage2-2-latest.safetensors"} <= names
    assert (folder / "demo.safetensors").read_bytes() == b"earlier"
    kept = (folder / "stage2-2.state").stat().st_mtime_ns
    command.main([*arguments, "--workers", "0", "--device", "cpu", "--overwrite"])
    model, start = load_model(folder / "demo.safetensors"), load_model("demo")
    assert (folder / "stage2-2.state").stat().st_mtime_ns == kept
    assert (model.config, model.anomaly_head.config) == (start.config, start.anomaly_head.config)  # type: ignore[union-attr]
    assert set(model.info["results"]) == set(SCORES)
    assert len(model.info["plan"]["further"]["stages"]) == 2
    runs = [load_model(folder / f"stage2-{run}.safetensors").state_dict() for run in (1, 2)]
    key = "network.class_head.weight"
    assert not torch.equal(runs[0][key], runs[1][key])
    last = load_model(folder / "stage2.safetensors").state_dict()
    assert torch.allclose(last[key], (runs[0][key] + runs[1][key]) / 2)
    renewed = Plan().renewed
    wanted = (1 - renewed) * start.state_dict()[key] + renewed * last[key]
    assert torch.allclose(model.state_dict()[key], wanted, atol=1e-6)
    written = (folder / "demo.safetensors").stat().st_mtime_ns
    command.main([*arguments, "--workers", "0", "--run", "2"])  # all stages are finished
    assert (folder / "demo.safetensors").stat().st_mtime_ns == written


def test_a_broken_rule_ends_the_command_in_one_line(tmp_path: Path) -> None:
    missing, output = str(tmp_path / "none.safetensors"), str(tmp_path / "a.safetensors")
    with pytest.raises(SystemExit, match=r"built_in: .*no such file"):
        command.main(["--quick", "--start", missing, "--output", output, "--cache", str(tmp_path / "scenes")])
    (tmp_path / "stage1.safetensors").symlink_to(resolve_source("demo"))
    with pytest.raises(SystemExit, match=r"run must lie in \[1, 2\], got 3"):
        command.main(["--quick", "--output", output, "--cache", str(tmp_path / "scenes"), "--run", "3"])
