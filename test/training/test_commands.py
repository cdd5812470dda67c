"""The commands of the guides, as they stand there, with everything in them made small."""

import logging
import re
import shlex
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from eomt_ext_training import demo_model, measure
from eomt_ext_training.head import cli
from eomt_ext_training.network import cli as network_cli
from jsonargparse import capture_parser
from typer import Typer
from typer.testing import CliRunner

from eomt_ext_core import AnomalyEngine, EngineConfig, load_model
from eomt_ext_core.cli import COMMAND_GROUP
from eomt_ext_core.config import SCORES

ROOT = Path(__file__).resolve().parents[2]
README, CAMVID = ROOT / "training" / "README.md", ROOT / "docs" / "camvid.md"
PROGRAMS = {
    "eomt-ext-train": cli.run,
    "eomt-ext-train-network": network_cli.run,
    "eomt_ext_training.measure": measure.run,
    "eomt_ext_training.demo_model": demo_model.main,
}
CALIBRATE = (
    "eomt-ext calibrate runs/head/version_0/model.safetensors --overwrite --data FOLDER --target-tpr 0.95 "
    "--plot reliability.svg"
)
TINY = "--model.backbone_overrides", '{"embed_dim": 32, "depth": 3, "num_heads": 2}'


def commands_of(page: Path) -> list[str]:
    """What a page says to run, a line each: its indented and its shell blocks."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL) + re.findall(r"^ {4}\S.*$", text, re.MULTILINE)
    lines = [line.partition(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [" ".join(line.split()) for line in lines if line and not line.startswith("#")]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command of a guide with further arguments, which come after its own; the words in capitals are replaced."""

    def run(command: str, *more: str, **words: Path | str) -> Any:
        for word, value in words.items():
            command = command.replace(word, str(value))
        parts = shlex.split(command)
        name = parts[2] if parts[:2] == ["python", "-m"] else parts[0]
        arguments = [*parts[3 if name != parts[0] else 1 :], *more]
        monkeypatch.setattr("sys.argv", [name, *arguments])
        return PROGRAMS[name]()

    return run


def test_these_are_the_commands_of_the_guide() -> None:
    assert [command.split(" #")[0] for command in commands_of(README)] == [
        "pip install -e . -e training",
        "eomt-ext-train fit -c training/configs/eomt_base_640_ext.yaml --model.checkpoint EOMT_CHECKPOINT",
        "eomt-ext-train-network --config training/configs/camvid_network.yaml",  # see the recipe below
        "python -m eomt_ext_training.demo_model",
        "python -m eomt_ext_training.built_in --start runs/demo/demo.safetensors",
        CALIBRATE,
    ]


def test_the_reference_configuration_trains(call: Any, tiny_network: Path, tmp_path: Path) -> None:
    few = [
        f"--data.{part}.init_args.{setting}"
        for part in ("val", "train.init_args.samples")
        for setting in ("crop_hw=[64,96]", "image_hw=[72,128]", "count=2")
    ]
    trained = call(
        commands_of(README)[1], "--model.crop_hw", "[64,96]", *few, "--trainer.max_epochs", "1",
        "--trainer.default_root_dir", str(tmp_path), "--data.cache.folder", str(tmp_path / "features"),
        "--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.num_nodes", "1", "--data.num_workers", "0",
        "--model.lr", "3e-4", "--trainer.precision", "bf16-mixed", "--trainer.accumulate_grad_batches", "2",
        EOMT_CHECKPOINT=tiny_network, **{"training/configs": ROOT / "training" / "configs"},
    )  # fmt: skip
    assert trained.model.lr == 3e-4
    folder = tmp_path / "eomt_base_640_ext" / "version_0"
    for name in re.findall(r"^\| `([\w./]+?)/?`", README.read_text(encoding="utf-8"), re.MULTILINE)[:5]:
        assert (folder / name).exists(), name
    validate = "eomt-ext-train validate -c CONFIG --model.checkpoint EOMT_CHECKPOINT --ckpt_path CHECKPOINT"
    measured = call(
        validate, CONFIG=folder / "config.yaml", EOMT_CHECKPOINT=tiny_network,
        CHECKPOINT=folder / "checkpoints" / "last.ckpt",
    )  # fmt: skip
    assert 0 < measured.trainer.callback_metrics["val/auprc"] <= 1


def test_lightning_advertises_nothing(call: Any) -> None:
    with pytest.raises(SystemExit):
        call("eomt-ext-train fit --help")
    from lightning.pytorch import Trainer

    heard: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    loggers = [logging.getLogger(f"lightning.{part}.utilities.rank_zero") for part in ("fabric", "pytorch")]
    for logger in loggers:
        logger.addHandler(listener)
    Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    for logger in loggers:
        logger.removeHandler(listener)
    assert heard, "Lightning says which device it uses"
    assert not any("Tip" in text for text in heard)


def test_the_help_lists_every_option(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        call("eomt-ext-train fit --help")
    assert end.value.code == 0
    said = capsys.readouterr().out
    for option in ("--trainer.num_nodes", "--trainer.precision", "--model.pixels_per_crop", "--data.cache"):
        assert option in said


@pytest.fixture
def camvid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like CamVid's, beside which the recipe is run: a road under a sky, with a car."""
    rng = np.random.default_rng(0)
    labels = np.zeros((96, 128), np.uint8)
    labels[40:], labels[30:50, 10:30], labels[0] = 3, 8, 11
    colours = rng.integers(0, 256, (12, 3), dtype=np.uint8)
    for part, count in (("train", 3), ("val", 2)):
        for name in ("images", "labels"):
            (tmp_path / "camvid" / part / name).mkdir(parents=True)
        for index in range(count):
            image = colours[labels] // 2 + rng.integers(0, 128, (96, 128, 3), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / "camvid" / part / "images" / f"{index}.jpg"), image)
            cv2.imwrite(str(tmp_path / "camvid" / part / "labels" / f"{index}.png"), labels)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_recipe_of_camvid_runs_from_end_to_end(call: Any, camvid: Path) -> None:
    assignment, network, head, table = commands_of(CAMVID)
    assert assignment == "CONFIGS=path/to/this/repository/training/configs"
    configs = {"$CONFIGS": ROOT / "training" / "configs"}
    stages = '[{"steps": 2, "batch_size": 2, "shrink": 2}, {"steps": 1, "batch_size": 2, "seed": 1}]'
    small = ["--model.crop_hw", "[64,96]", *TINY, "--data.init_args.crop_hw", "[64,96]", "--stages", stages]
    call(network, *small, **configs)
    assert load_model("runs/camvid/network.safetensors").info["class_names"][3] == "road"

    small = [f"--data.{part}.init_args.crop_hw=[64,96]" for part in ("train", "val")]
    call(head, *small, "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", **configs)
    model = load_model("runs/camvid/camvid_head/version_0/model.safetensors")
    frame = AnomalyEngine(model, EngineConfig(device="cpu")).infer(np.zeros((64, 96, 3), np.uint8))
    assert np.isfinite(frame.probability).all()

    small = [f"--{part}.init_args.crop_hw=[64,96]" for part in ("pasted", "clear")]
    call(table, *small, **configs)
    rows = Path("runs/camvid/table.md").read_text().splitlines()
    assert [row.split("|")[1].strip() for row in rows] == ["score", "---", *SCORES]
    assert "nan" not in "".join(rows)


@pytest.mark.parametrize("config", ["camvid_network.yaml", "camvid_head.yaml", "camvid_measure.yaml"])
def test_the_command_that_a_configuration_names_is_understood(
    config: str, camvid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ROOT / "training" / "configs" / config
    header = path.read_text(encoding="utf-8").replace("\\\n#", "")
    (command,) = re.findall(r"^# {3}(\S.*)$", header, re.MULTILINE)
    parts = shlex.split(command.replace("training/configs", str(path.parent)).replace("CAMVID", "camvid"))
    parts = parts[2:] if parts[0] == "python" else parts
    if parts[0] == "eomt-ext-train":
        monkeypatch.setattr(cli.HeadTrainingCLI, "instantiate_classes", lambda self: None)
        monkeypatch.setattr(cli.HeadTrainingCLI, "_run_subcommand", lambda self, subcommand: None)
        monkeypatch.setattr("sys.argv", ["eomt-ext-train"])
        assert cli.run(parts[1:]).config.fit.run_name == "camvid_head"
        return
    understood = capture_parser(PROGRAMS[parts[0]]).parse_args(parts[1:])
    if config == "camvid_network.yaml":
        assert understood.data.init_args.scenes.init_args.folder == "camvid/train"


def test_the_demonstration_model_takes_a_finished_network(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its whole training is run elsewhere; here only, that the option leads past that of the network."""
    taken = []

    def stop(plan: Any, network: Path, *others: Any) -> None:
        taken.append(network)
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_model, "train_its_head", stop)
    with pytest.raises(KeyboardInterrupt):
        call(f"{commands_of(README)[3]} --network FILE --quick")
    assert taken == [Path("FILE")]


def test_calibrate_takes_the_options_of_the_guide(tmp_path: Path) -> None:
    """On drawn scenes, of which there are as many as a low target needs."""
    (entry,) = entry_points(group=COMMAND_GROUP, name="calibrate")
    program = Typer()
    program.command()(entry.load())
    parts = shlex.split(CALIBRATE.replace("0.95", "0.3").replace("FOLDER", "scenes:7:2:animal,tyre"))
    parts = ["demo" if "/" in part else part for part in parts[2:]]
    parts[parts.index("--plot") + 1] = str(tmp_path / "reliability.svg")
    done = CliRunner().invoke(program, [*parts, "--check", "scenes:9:1", "--output", str(tmp_path / "out.safetensors")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "reliability.svg").is_file()
    assert load_model(tmp_path / "out.safetensors").info["calibration"]["target_tpr"] == 0.3
