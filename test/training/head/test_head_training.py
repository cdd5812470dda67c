"""The command, from procedural scenes to a model that the engine and the node run."""

import csv
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from eomt_ext_training.data.sample import Sample
from eomt_ext_training.head import module as head_module
from eomt_ext_training.head.feature_cache import network_digest
from eomt_ext_training.head.losses import count_valid
from eomt_ext_training.head.module import HeadModule, head_state
from eomt_ext_training.head.pixel_sampling import draw_pixels
from lightning.pytorch import Trainer, seed_everything
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from eomt_ext_core import AnomalyEngine, CheckpointError, ConfigError, DatasetError, load_model


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
    assert (folder / "head.safetensors").stat().st_mode == (folder / "config.yaml").stat().st_mode
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
    """An image goes out over DDS, and the probability that comes back is that of the model beside ROS."""
    rclpy = pytest.importorskip("rclpy")
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.lifecycle import TransitionCallbackReturn
    from rclpy.node import Node
    from rclpy.parameter import Parameter
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image
    from std_msgs.msg import Header

    from eomt_ext_ros.messages.images import to_image_msg
    from eomt_ext_ros.node import AnomalyNode

    model = trained[1] / "model.safetensors"
    image = np.random.default_rng(0).integers(0, 256, (70, 120, 3), dtype=np.uint8)
    context = rclpy.context.Context()
    rclpy.init(context=context, domain_id=1 + (os.getpid() + 50) % 101)  # not that of the ROS tests
    parameters = [Parameter("checkpoint", value=str(model)), Parameter("device", value="cpu")]
    client, node = Node("client", context=context), AnomalyNode(context=context, parameter_overrides=parameters)
    executor = SingleThreadedExecutor(context=context)
    answers: list[Image] = []

    def spin_until(condition) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            executor.spin_once(timeout_sec=0.02)

    try:
        executor.add_node(client)
        executor.add_node(node)
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        camera = client.create_publisher(Image, "/eomt_ext/input/image", qos_profile_sensor_data)
        topic = "/eomt_ext/output/probability"
        client.create_subscription(Image, topic, answers.append, 1)
        spin_until(lambda: camera.get_subscription_count() and node.count_subscribers(topic))
        header = Header(stamp=client.get_clock().now().to_msg(), frame_id="camera_optical")
        camera.publish(to_image_msg(image, "rgb8", header))
        spin_until(lambda: answers)
    finally:
        executor.shutdown()
        node.destroy_node()
        client.destroy_node()
        rclpy.try_shutdown(context=context)
    assert answers[0].header == header
    probability = np.frombuffer(answers[0].data, np.float32).reshape(70, 120)
    np.testing.assert_allclose(probability, AnomalyEngine(load_model(model)).infer(image).probability, atol=1e-5)


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


def test_best_checkpoint_of_a_moved_run_is_found(train, tmp_path: Path) -> None:
    first = train("--trainer.max_epochs", "1", "--run_name", "first").trainer.checkpoint_callback
    (tmp_path / "first").rename(tmp_path / "moved")
    moved = tmp_path / "moved" / "version_0" / "checkpoints"
    again = ("--ckpt_path", str(moved / "last.ckpt"), "--run_name")
    at_its_end = train("--trainer.max_epochs", "1", *again, "second").trainer.checkpoint_callback
    assert Path(at_its_end.best_model_path) == moved / Path(first.best_model_path).name
    assert at_its_end.best_model_score.item() == first.best_model_score.item()
    head = load_file(tmp_path / "second" / "version_0" / "head.safetensors")
    best = head_state(at_its_end.best_model_path)
    assert all(value.equal(head["anomaly_head." + name]) for name, value in best.items())

    Path(at_its_end.best_model_path).unlink()
    with pytest.warns(UserWarning, match="starting without a best checkpoint"):
        anew = train("--trainer.max_epochs", "2", *again, "third").trainer.checkpoint_callback
    assert Path(anew.best_model_path).parent == tmp_path / "third" / "version_0" / "checkpoints"
    assert (tmp_path / "third" / "version_0" / "model.safetensors").is_file()


def test_validate_is_the_only_other_subcommand(trained, train) -> None:
    command, _ = trained
    best = command.trainer.checkpoint_callback
    validated = train("--ckpt_path", best.best_model_path, subcommand="validate").trainer
    assert validated.callback_metrics["val/auprc"].item() == pytest.approx(best.best_model_score.item(), rel=1e-6)
    assert type(command).subcommands().keys() == {"fit", "validate"}


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"pixels_per_crop": 0}, "pixels_per_crop must be at least 1 for uniform sampling, .* got 0"),
        ({"pixels_per_crop": 1, "sampling": "balanced"}, "pixels_per_crop must be at least 2 for balanced .* got 1"),
        ({"sampling": "even"}, "sampling must be 'uniform' or 'balanced', got 'even'"),
        ({"pos_weight": -3.0}, r"pos_weight must be a positive number, got -3\.0"),
        ({"lr": -1.0}, r"lr must be a positive number, got -1\.0"),
        ({"lr": float("nan")}, "lr must be a positive number, got nan"),
        ({"weight_decay": -0.1}, r"weight_decay must be a number from 0 on, got -0\.1"),
    ],
)
def test_settings_out_of_range_are_refused_at_once(tiny_network: Path, settings, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        HeadModule(str(tiny_network), **settings)


def test_seeds_decide(train, recwarn: pytest.WarningsRecorder) -> None:
    few = ("--trainer.limit_train_batches", "1", "--trainer.max_epochs", "1", "--trainer.limit_val_batches", "8")
    short = (*few, "--trainer.log_every_n_steps", "50")
    first, same, other = (train(*short, "--seed_everything", seed) for seed in ("5", "5", "6"))
    weights = [torch.cat([p.detach().flatten() for p in run.model.head.parameters()]) for run in (first, same, other)]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])
    assert not [each for each in recwarn if "logging interval" in str(each.message)], "each epoch is logged"


def test_without_cache_the_network_runs_in_each_step(train) -> None:
    short = ("--trainer.limit_train_batches", "2", "--trainer.max_epochs", "1")
    cached = train(*short, "--data.cache.bf16", "false")
    direct = train(*short, "--data.cache", "null")
    for ours, theirs in zip(cached.model.head.parameters(), direct.model.head.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=5e-3, rtol=5e-2)  # but for bfloat16


SHORT = ("--trainer.limit_train_batches", "2", "--trainer.max_epochs", "1")


def test_a_head_is_trained_on_a_dinov3(train, tmp_path: Path) -> None:
    from eomt_ext_core import EoMTExt, ModelConfig, load_model, save_model

    overrides = {"embed_dim": 32, "depth": 2, "num_heads": 2, "init_values": 1.0}
    config = ModelConfig("vit_small_patch16_dinov3_qkvb", (64, 96), num_queries=6, num_classes=5, num_blocks=1,
                         backbone_overrides=overrides)  # fmt: skip
    save_model(EoMTExt(config), tmp_path / "network.safetensors")
    trainer = train(*SHORT, checkpoint=tmp_path / "network.safetensors").trainer
    trained = load_model(Path(trainer.log_dir) / "model.safetensors")
    assert trained.config.backbone == config.backbone
    assert trained.anomaly_head is not None


@pytest.fixture(scope="module")
def whole_precision(fit, tmp_path_factory):
    return fit(tmp_path_factory.mktemp("whole"), *SHORT).trainer.callback_metrics


@pytest.mark.parametrize(
    ("precision", "used"), [("bf16-mixed",) * 2, ("16-mixed", "bf16-mixed"), ("bf16-true", "bf16-mixed")]
)
@pytest.mark.parametrize("pixels", ["null", "2000"])
def test_mixed_precision_trains_the_same_head_on_the_same_network(
    train, whole_precision, precision, used, pixels, tiny_network: Path, tmp_path: Path
) -> None:
    options = (*SHORT, "--trainer.precision", precision, "--model.pixels_per_crop", pixels, "--data.cache", "null")
    trainer = train(*options).trainer
    assert trainer.precision == used  # float16 is none on a CPU
    for name in ("val/auprc", "val/loss"):
        assert trainer.callback_metrics[name].item() == pytest.approx(whole_precision[name].item(), rel=0.05), name
    result = load_model(tmp_path / "tiny" / "version_0" / "model.safetensors").network.state_dict()
    assert all(value.equal(result[name]) for name, value in load_model(tiny_network).network.state_dict().items())


def test_a_precision_that_changes_the_network_is_refused(train) -> None:
    with pytest.raises(ConfigError, match=r"precision must be one of 32-true, bf16-mixed, 16-mixed, got 64-true"):
        train(*SHORT, "--trainer.precision", "64-true")


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
    with pytest.raises(DatasetError, match=r"the val data: .* got no anomalous one in 8 label maps"):
        train("--data.val.init_args.obstacle_probability", "0.0", "--trainer.limit_train_batches", "1")


def test_training_without_anomalies_is_refused_early(train, tmp_path: Path) -> None:
    few = "--data.train.init_args.count", "4", "--data.cache", "null"
    with pytest.raises(DatasetError, match=r"the train data: .* got no anomalous one in 4 label maps"):
        train("--data.train.init_args.obstacle_probability", "0.0", *few)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_part_of_the_validation_data_without_anomalies_is_an_error(tiny_network: Path) -> None:
    with pytest.raises(DatasetError, match="must have anomalous and normal pixels for AuPRC and FPR95, got 0 and 6144"):
        Trainer(**QUIET).validate(HeadModule(str(tiny_network)), crops(0))


QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}


def crops(*labels: int) -> DataLoader:
    """Batches of one crop each, always of the same image, all of whose pixels have one label."""
    image = torch.randint(256, (3, 64, 96), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    samples = [Sample(image, torch.full((64, 96), label, dtype=torch.uint8), str(label)) for label in labels]
    return DataLoader(samples, batch_size=1)


def test_batch_without_a_valid_pixel_is_skipped(tiny_network: Path) -> None:
    weights = []
    for num_batches in (1, 2):
        seed_everything(0)
        module = HeadModule(str(tiny_network))
        before = [p.detach().clone() for p in module.head.parameters()]
        Trainer(max_epochs=1, limit_train_batches=num_batches, **QUIET).fit(module, crops(0, 255))
        weights.append(list(module.head.parameters()))
        assert all(p.isfinite().all() and not p.equal(old) for p, old in zip(weights[-1], before, strict=True))
    assert all(one.equal(two) for one, two in zip(*weights, strict=True))


def test_validation_loss_is_the_mean_over_valid_pixels(tiny_network: Path) -> None:
    seed_everything(0)
    module, trainer = HeadModule(str(tiny_network)), Trainer(**QUIET)
    (without,) = trainer.validate(module, crops(0, 1))
    (with_void,) = trainer.validate(module, crops(0, 1, 255, 255))
    assert with_void == pytest.approx(without)


def test_accumulated_batches_draw_pixels_and_dropout_of_their_own(tiny_network: Path, monkeypatch) -> None:
    drawn, seeds = [], []

    def note(*args, generator: torch.Generator, **kwargs):
        seeds.append((generator.initial_seed(), torch.initial_seed()))
        pixels = draw_pixels(*args, generator=generator, **kwargs)
        drawn.append(pixels.position)
        return pixels

    monkeypatch.setattr(head_module, "draw_pixels", note)
    module = HeadModule(str(tiny_network), pixels_per_crop=64)
    Trainer(max_epochs=2, accumulate_grad_batches=3, **QUIET).fit(module, crops(0, 0, 0))
    assert len(drawn) == 6
    assert not any(one.equal(other) for one, other in itertools.combinations(drawn, 2))
    assert len({seed for pair in seeds for seed in pair}) == 12


@pytest.fixture(scope="module")
def one_and_two(tiny_network: Path, tmp_path_factory) -> Path:
    """A folder with what one process and two have found."""
    script, folder = Path(__file__).with_name("two_processes.py"), tmp_path_factory.mktemp("processes")
    subprocess.run([sys.executable, str(script), str(tiny_network), str(folder)], check=True, timeout=500, cwd=folder)
    return folder


def test_two_processes_have_the_gradient_of_the_doubled_batch(one_and_two: Path) -> None:
    one, two = (torch.load(one_and_two / f"{processes}.pt", weights_only=True) for processes in (1, 2))
    assert 0 < two["num_valid"] < one["num_valid"] != 2 * two["num_valid"]  # the halves differ in valid pixels
    assert max(gradient.abs().max() for gradient in one["gradients"]) > 1e-2
    for of_one, of_two in zip(one["gradients"], two["gradients"], strict=True):
        torch.testing.assert_close(of_two, of_one, atol=1e-5, rtol=0)
    assert (one_and_two / "void").read_text() == "unchanged"


def test_two_processes_measure_what_one_measures(one_and_two: Path) -> None:
    """With shares of five and four images, and other shares of void in each."""
    one, two = (json.loads((one_and_two / f"val{processes}.json").read_text()) for processes in (1, 2))
    assert one.keys() == {"val/loss", "val/auprc", "val/fpr95", "val/auroc"}
    assert 0.3 < one["val/auprc"] < 0.9
    assert two == pytest.approx(one, rel=1e-6)


def test_two_processes_fill_the_cache_that_one_fills(one_and_two: Path) -> None:
    one, two = (
        {path.name: load_file(path) for path in (one_and_two / f"cache{processes}").rglob("*.safetensors")}
        for processes in (1, 2)
    )
    assert len(one) == 9
    assert one.keys() == two.keys()
    for name, parts in one.items():
        assert all(part.equal(two[name][key]) for key, part in parts.items()), name


def test_reference_configuration_is_what_it_says() -> None:
    import yaml

    path = Path(__file__).parents[3] / "training" / "configs" / "eomt_base_640_ext.yaml"
    model = yaml.safe_load(path.read_text())["model"]
    assert (model["lr"], model["pos_weight"], model["crop_hw"]) == (1e-4, 10.0, [640, 640])
    assert (model["head"]["hidden_dim"], model["head"]["dropout"]) == (256, 0.3)


def test_valid_pixels_are_counted_exactly() -> None:
    assert count_valid(torch.tensor([0, 1, 255, 255, 0], dtype=torch.uint8)).item() == 3.0
