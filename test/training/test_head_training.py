"""The command, from procedural scenes to a model that the engine and the node run."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from eomt_ext_training.feature_cache import network_digest
from eomt_ext_training.head_module import HeadModule, head_state
from eomt_ext_training.losses import count_valid
from safetensors.torch import load_file

from eomt_ext_core import AnomalyEngine, CheckpointError, DatasetError, load_model


def metrics_of(folder: Path, name: str) -> list[float]:
    with open(folder / "metrics.csv", newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


@pytest.fixture(scope="module")
def trained(fit, tmp_path_factory):
    """A finished run of two epochs on 50 scenes, and its folder."""
    folder = tmp_path_factory.mktemp("logs")
    return fit(folder), folder / "tiny" / "version_0"


def test_fit_runs_to_the_end(trained, tiny_network: Path) -> None:
    command, folder = trained
    losses = metrics_of(folder, "train/loss_epoch")
    assert len(losses) == 2
    assert losses[1] < losses[0]
    assert len(metrics_of(folder, "val/auprc")) == 2
    assert list(folder.glob("events.out.tfevents.*"))
    assert (folder / "config.yaml").is_file()
    best = max(metrics_of(folder, "val/auprc"))
    assert command.trainer.checkpoint_callback.best_model_score.item() == pytest.approx(best, rel=1e-5)

    # the frozen network, bit for bit
    original, result = load_model(tiny_network), load_model(folder / "model.safetensors")
    assert network_digest(command.model.model.network) == network_digest(original.network)
    for name, value in original.network.state_dict().items():
        assert value.equal(result.network.state_dict()[name]), name
    assert not any(module.training for module in command.model.model.network.modules())
    assert not any(p.requires_grad or p.grad is not None for p in command.model.model.network.parameters())
    (group,) = command.trainer.optimizers[0].param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in command.model.head.parameters()}
    assert group["lr"] == 5e-3

    # the files for use
    head = load_file(folder / "head.safetensors")
    assert head.keys() == {"anomaly_head." + name for name in command.model.head.state_dict()}
    best_head = head_state(command.trainer.checkpoint_callback.best_model_path)
    assert all(value.equal(head["anomaly_head." + name]) for name, value in best_head.items())
    assert all(value.equal(result.anomaly_head.state_dict()[name]) for name, value in best_head.items())
    assert result.info["class_names"] == ["a", "b", "c", "d", "e"]
    assert "calibration" not in result.info
    image = np.random.default_rng(0).integers(0, 256, (70, 120, 3), dtype=np.uint8)
    probability = AnomalyEngine(result).infer(image).probability
    assert probability.shape == (70, 120)
    for source in (folder / "head.safetensors", command.trainer.checkpoint_callback.best_model_path):
        from_parts = AnomalyEngine(load_model(tiny_network, head=source)).infer(image).probability
        np.testing.assert_array_equal(from_parts, probability)


def test_the_node_runs_the_result_as_it_is(trained) -> None:
    rclpy = pytest.importorskip("rclpy")
    from rclpy.lifecycle import TransitionCallbackReturn
    from rclpy.parameter import Parameter

    from eomt_ext_ros.node import AnomalyNode

    _, folder = trained
    context = rclpy.context.Context()
    rclpy.init(context=context)
    parameters = {"checkpoint": str(folder / "model.safetensors"), "device": "cpu"}
    node = AnomalyNode(context=context, parameter_overrides=[Parameter(k, value=v) for k, v in parameters.items()])
    try:
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)


@pytest.mark.parametrize("sampled", [(), ("--model.pixels_per_crop", "64", "--model.sampling", "balanced")])
def test_resumed_run_equals_an_uninterrupted_one(train, sampled, tmp_path: Path) -> None:
    straight = train("--trainer.max_epochs", "2", "--run_name", "straight", *sampled)
    train("--trainer.max_epochs", "1", "--run_name", "first", *sampled)
    last = tmp_path / "first" / "version_0" / "checkpoints" / "last.ckpt"
    assert all(key.startswith("model.anomaly_head.") for key in torch.load(last, weights_only=True)["state_dict"])
    resumed = train("--trainer.max_epochs", "2", "--run_name", "second", "--ckpt_path", str(last), *sampled)
    assert resumed.trainer.global_step == straight.trainer.global_step == 20
    best, best_of_straight = (run.trainer.checkpoint_callback.best_model_score for run in (resumed, straight))
    assert best.item() == best_of_straight.item()
    for name, value in straight.model.head.state_dict().items():
        assert value.equal(resumed.model.head.state_dict()[name]), name


def test_seeds_decide(train) -> None:
    short = ("--trainer.limit_train_batches", "1", "--trainer.max_epochs", "1", "--trainer.limit_val_batches", "8")
    first, same, other = (train(*short, "--seed_everything", seed) for seed in ("5", "5", "6"))
    weights = [torch.cat([p.detach().flatten() for p in run.model.head.parameters()]) for run in (first, same, other)]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])


def test_without_cache_the_network_runs_in_each_step(train) -> None:
    short = ("--trainer.limit_train_batches", "2", "--trainer.max_epochs", "1")
    cached = train(*short, "--data.cache.bf16", "false")
    direct = train(*short, "--data.cache", "null")
    for ours, theirs in zip(cached.model.head.parameters(), direct.model.head.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=5e-3, rtol=5e-2)  # but for bfloat16


def test_resume_with_another_network_or_head_is_refused(train, tiny_network: Path, tmp_path: Path) -> None:
    from eomt_ext_core import save_model

    train("--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1")
    last = str(tmp_path / "tiny" / "version_0" / "checkpoints" / "last.ckpt")
    with pytest.raises(CheckpointError, match="head of the configured shape"):
        train("--ckpt_path", last, "--model.head.hidden_dim", "8")
    other = load_model(tiny_network)
    with torch.no_grad():
        other.network.q.weight[0, 0] += 1
    save_model(other, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="another frozen network"):
        train("--ckpt_path", last, checkpoint=tmp_path / "other.safetensors")


def test_validation_without_anomalies_is_an_error(train) -> None:
    with pytest.raises(DatasetError, match="must show anomalies"):
        train("--data.val.init_args.obstacle_probability", "0.0", "--trainer.limit_train_batches", "1")


def test_batch_without_a_valid_pixel_is_skipped(tiny_network: Path) -> None:
    from eomt_ext_training.data.sample import Sample
    from lightning.pytorch import LightningDataModule, Trainer, seed_everything
    from torch.utils.data import DataLoader

    class OneVoid(LightningDataModule):
        def train_dataloader(self):
            image = torch.randint(256, (3, 64, 96), dtype=torch.uint8)
            void, some = torch.full((64, 96), 255, dtype=torch.uint8), torch.zeros((64, 96), dtype=torch.uint8)
            return DataLoader([Sample(image, some, "some"), Sample(image, void, "void")], batch_size=1)

    weights = []
    for num_batches in (1, 2):
        seed_everything(0)
        module = HeadModule(str(tiny_network))
        before = [p.detach().clone() for p in module.head.parameters()]
        options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
        Trainer(max_epochs=1, limit_train_batches=num_batches, **options).fit(module, OneVoid())
        weights.append(list(module.head.parameters()))
        assert all(p.isfinite().all() and not p.equal(old) for p, old in zip(weights[-1], before, strict=True))
    assert all(one.equal(two) for one, two in zip(*weights, strict=True))


def test_two_processes_have_the_gradient_of_the_doubled_batch(tiny_network: Path, tmp_path: Path) -> None:
    script = Path(__file__).with_name("two_processes.py")
    subprocess.run(
        [sys.executable, str(script), str(tiny_network), str(tmp_path)], check=True, timeout=500, cwd=tmp_path
    )
    one, two = (torch.load(tmp_path / f"{processes}.pt", weights_only=True) for processes in (1, 2))
    assert 0 < two["num_valid"] < one["num_valid"] != 2 * two["num_valid"]  # the halves differ in valid pixels
    assert max(gradient.abs().max() for gradient in one["gradients"]) > 1e-2
    for of_one, of_two in zip(one["gradients"], two["gradients"], strict=True):
        torch.testing.assert_close(of_two, of_one, atol=1e-5, rtol=0)
    assert (tmp_path / "void").read_text() == "unchanged"


def test_reference_configuration_is_what_it_says() -> None:
    import yaml

    path = Path(__file__).parents[2] / "training" / "configs" / "eomt_base_640_ext.yaml"
    model = yaml.safe_load(path.read_text())["model"]
    assert (model["lr"], model["pos_weight"], model["crop_hw"]) == (1e-4, 10.0, [640, 640])
    assert (model["head"]["hidden_dim"], model["head"]["dropout"]) == (256, 0.3)


def test_valid_pixels_are_counted_exactly() -> None:
    assert count_valid(torch.tensor([0, 1, 255, 255, 0], dtype=torch.uint8)).item() == 3.0
