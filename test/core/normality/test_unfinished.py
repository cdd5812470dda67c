"""Learning that is interrupted and goes on."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from eomt_ext_core import AnomalyEngine, EngineConfig, EoMTExt, HeadConfig
from eomt_ext_core.cli import app
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.model.checkpoint import save_model
from eomt_ext_core.normality.learn_config import LearnConfig
from eomt_ext_core.normality.learning import learn_normality
from eomt_ext_core.normality.normality import Normality
from eomt_ext_core.normality.unfinished import Unfinished, files_of

NUM_IMAGES = 12


class Drive:
    """Images of noise, of which one is the last that comes."""

    name, num_images = "noise", NUM_IMAGES

    def __init__(self, ends_after: int = NUM_IMAGES) -> None:
        self.left = ends_after
        self.seen: list[int] = []

    def images(self, start: int, stop: int, every: int) -> Iterator[NDArray[np.uint8]]:
        for number in range(start, stop, every):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            self.seen.append(number)
            yield np.random.default_rng(number).integers(0, 255, (64, 96, 3), np.uint8)


def learn(model: EoMTExt, drive: Drive, unfinished: Unfinished | None) -> Normality:
    def make_engine(normality: Normality | None) -> AnomalyEngine:
        return AnomalyEngine(model, EngineConfig("cpu", precision="fp32"), normality)

    return learn_normality([drive], make_engine, {}, LearnConfig(held_out=0.5), unfinished)


@pytest.mark.parametrize("ends_after", [3, 6, 9])
def test_interrupted_run_ends_with_the_same_result(
    tiny_model: Callable[..., EoMTExt], tmp_path: Path, ends_after: int
) -> None:
    model = tiny_model(HeadConfig(16, 0.3, 8))
    whole = learn(model, Drive(), None)
    unfinished = Unfinished(tmp_path / "normal.safetensors", "model 1", save_every_s=0)
    with pytest.raises(KeyboardInterrupt):
        learn(model, Drive(ends_after), unfinished)

    drive = Drive()
    resumed = learn(model, drive, Unfinished(tmp_path / "normal.safetensors", "model 1", save_every_s=0))
    assert drive.seen == list(range(ends_after, NUM_IMAGES))
    torch.testing.assert_close(resumed.distance.prototypes, whole.distance.prototypes, rtol=0, atol=0)
    assert (resumed.readings, resumed.about, resumed.drift) == (whole.readings, whole.about, whole.drift)


@pytest.mark.parametrize("damage", ["another run", "cut short"])
def test_state_that_cannot_be_used_is_refused(tmp_path: Path, damage: str) -> None:
    output = tmp_path / "normal.safetensors"
    unfinished = Unfinished(output, "every 1")
    unfinished.save({"learnt": torch.tensor(3)})
    assert Unfinished(output, "every 1").load()["learnt"] == 3
    if damage == "cut short":
        unfinished.path.write_bytes(unfinished.path.read_bytes()[:-4])
    with pytest.raises(ConfigError, match=r"cannot be resumed: .* begin anew with --overwrite"):
        Unfinished(output, "every 1" if damage == "cut short" else "every 2").load()


def test_command_leaves_its_output_alone(tiny_model: Callable[..., EoMTExt], tmp_path: Path) -> None:
    drive = tmp_path / "drive"
    drive.mkdir()
    for number in range(4):
        cv2.imwrite(str(drive / f"{number}.png"), np.full((64, 96, 3), number, np.uint8))
    save_model(tiny_model(HeadConfig(16, 0.3, 8)), tmp_path / "model.safetensors")
    output = tmp_path / "out" / "normal.safetensors"
    options = ["--checkpoint", str(tmp_path / "model.safetensors"), "--output", str(output), "--device", "cpu"]
    result = CliRunner().invoke(app, ["learn-normal", str(drive), *options])
    assert result.exit_code == 0, result.output
    assert [path.name for path in output.parent.iterdir()] == ["normal.safetensors"]


def test_command_goes_on_only_if_it_is_told_to(tiny_model: Callable[..., EoMTExt], tmp_path: Path) -> None:
    (tmp_path / "drive").mkdir()
    for number in range(4):
        cv2.imwrite(str(tmp_path / "drive" / f"{number}.png"), np.full((64, 96, 3), number, np.uint8))
    save_model(tiny_model(HeadConfig(16, 0.3, 8)), tmp_path / "model.safetensors")
    output = tmp_path / "normal.safetensors"
    unfinished = Unfinished(output, "another run")
    unfinished.save({"learnt": torch.tensor(3)})
    options = ["--checkpoint", str(tmp_path / "model.safetensors"), "--output", str(output), "--device", "cpu"]

    def says(*more: str) -> str:
        return str(CliRunner().invoke(app, ["learn-normal", str(tmp_path / "drive"), *options, *more]).exception)

    assert "go on with --resume, or begin anew with --overwrite" in says()
    assert "is of another model, other settings or other images" in says("--resume")
    assert "give one of them" in says("--resume", "--overwrite")
    assert says("--overwrite") == "None"
    assert not unfinished.path.exists()
    assert "exists: choose another, or pass --overwrite" in says()
    assert "exists: choose another, or pass --overwrite" in says("--resume")
    unfinished.save({"learnt": torch.tensor(3)})
    assert "exists: choose another, or pass --overwrite" in says("--resume")
    Unfinished(output, "another run", replaces=True).save({"learnt": torch.tensor(3)})
    assert "is of another model, other settings or other images" in says("--resume")


def test_a_drive_that_ends_early_is_not_taken_up_twice(tiny_model: Callable[..., EoMTExt], tmp_path: Path) -> None:
    """A container may declare more images than it holds."""

    class Short(Drive):
        num_images = NUM_IMAGES + 4  # 8 to learn from; it ends after 6

        def images(self, start: int, stop: int, every: int) -> Iterator[NDArray[np.uint8]]:
            return super().images(start, min(stop, 6) if start < 8 else start + 1, every)

    def learn_both(drives: list[Drive]) -> Normality:
        unfinished = Unfinished(tmp_path / "normal.safetensors", "", save_every_s=0)
        model = tiny_model(HeadConfig(16, 0.3, 8))
        make = lambda known: AnomalyEngine(model, EngineConfig("cpu", precision="fp32"), known)  # noqa: E731
        return learn_normality(drives, make, {}, LearnConfig(held_out=0.5), unfinished)

    with pytest.raises(KeyboardInterrupt):
        learn_both([Short(), Drive(ends_after=3)])
    second = Drive()
    assert learn_both([Short(), second]).about["images_learnt"] == 12
    assert second.seen == list(range(3, NUM_IMAGES))


def test_output_beside_the_images_is_none_of_them(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", ".normal.unfinished.safetensors", "normal.safetensors"):
        (tmp_path / name).write_bytes(b"")
    assert files_of([tmp_path, tmp_path / "drive.mp4"]) == [
        tmp_path / "a.png", tmp_path / "b.png", tmp_path / "drive.mp4",
    ]  # fmt: skip


def test_a_wrong_option_is_refused_before_the_model_is_read(tmp_path: Path) -> None:
    options = ["--checkpoint", str(tmp_path / "none"), "--output", str(tmp_path / "normal.safetensors")]
    for name in ("precision", "device"):
        done = CliRunner().invoke(app, ["learn-normal", str(tmp_path), *options, f"--{name}", "foo"])
        assert f"{name} must be" in str(done.exception)
