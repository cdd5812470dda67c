"""The tutorials and how-tos, run block by block as they are written, on files as a reader has them."""

import re
import shlex
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from eomt_ext_core import EoMT, ModelConfig
from eomt_ext_core.cli import add_commands, app
from eomt_ext_core.images import VideoWriter
from eomt_ext_core.scenes import SceneConfig, render_scene, render_video

training = pytest.importorskip("eomt_ext_training.head.cli")

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(page for folder in ("tutorials", "how_to") for page in (ROOT / "docs" / folder).glob("*.md"))
BLOCK = re.compile(r"^```(sh|python|yaml)(?: title=\"([^\"]*)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SIZE = SceneConfig(size_hw=(135, 240))
NOT_RUN_HERE = {
    "in a clone of the repository",
    "needs ROS 2",
    "needs a recorded bag",
    "needs an NVIDIA GPU with TensorRT",
}
LAUNCH = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "launch").glob("*.launch.py"))
SMALL_TRAINING = (
    "--trainer.max_epochs=1",
    "--trainer.accelerator=cpu",
    "--data.num_workers=0",
    "--model.pixels_per_crop=64",
)


def write_labelled(folder: Path, count: int, values: tuple[int, int, int] = (0, 1, 255)) -> None:
    """Drawn scenes with the layout of one's own data; ``values`` of normal, anomalous and void pixels."""
    for part in ("images", "labels_masks"):
        (folder / part).mkdir(parents=True)
    table = np.zeros(256, np.uint8)
    table[[0, 1, 255]] = values
    for seed in range(count):
        scene = render_scene(seed + 40, SIZE)
        cv2.imwrite(str(folder / "images" / f"{seed}.png"), scene.image_rgb[..., ::-1])
        cv2.imwrite(str(folder / "labels_masks" / f"{seed}.png"), table[scene.labels])


def write_video(path: Path, num_frames: int) -> None:
    with VideoWriter(path, 10.0) as video:
        for scene in render_video(5, num_frames, SIZE):
            video.write(scene.image_rgb)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All files that the pages name; what a page writes is there for the next one."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "photos").mkdir()
    cv2.imwrite(str(folder / "photos" / "road.png"), render_scene(3, SIZE).image_rgb[..., ::-1])
    write_video(folder / "drive.mp4", 4)
    write_video(folder / "later.mp4", 2)
    write_labelled(folder / "labelled", 4)
    write_labelled(folder / "labelled_val", 1)
    write_labelled(folder / "mine", 2, (1, 150, 0))
    network = EoMT(ModelConfig("vit_small_patch14_reg4_dinov2", (224, 224), num_queries=20, num_classes=19))
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    state["network.attn_mask_probs"] = torch.zeros(network.config.num_blocks)
    torch.save(state, folder / "eomt_cityscapes.bin")
    return folder


class Reader:
    """Types what a page says; a command that another page has run already is not run again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ran: set[str]) -> None:
        self._monkeypatch, self._ran = monkeypatch, ran
        add_commands()
        self._group: Any = typer.main.get_command(app)

    def run(self, line: str) -> None:
        if line in self._ran:
            return
        program, *words = shlex.split(line, comments=True)
        if program == "eomt-ext-train":
            self._monkeypatch.setattr("sys.argv", [program, *words, *SMALL_TRAINING])
            training.run()
        else:
            assert program == "eomt-ext", line
            result = CliRunner().invoke(app, words)
            allowed = (0, 3) if words[0] == "doctor" else (0,)
            assert result.exit_code in allowed, f"{line}\n{result.output}\n{result.exception!r}"
        self._ran.add(line)

    def check(self, line: str) -> None:
        """What cannot be run here names options, arguments and files that there are."""
        program, *words = shlex.split(line, comments=True)
        if program == "eomt-ext":
            self._group.commands[words[0]].make_context(words[0], words[1:])
        given = [word.partition(":=")[0] for word in words if ":=" in word]
        assert all(f'"{name}"' in LAUNCH for name in given if line.startswith("ros2 launch eomt_ext_ros")), line
        assert all((ROOT / word).exists() for word in words if word.startswith("test/")), line


@pytest.fixture(scope="module")
def ran() -> set[str]:
    return set()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_block_runs(page: Path, folder: Path, ran: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    reader = Reader(monkeypatch, ran)
    for language, title, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if title.endswith(".yaml"):
            (folder / title).write_text(text, encoding="utf-8")
        elif language == "python":
            exec(compile(text, page.name, "exec"), {})
        elif language == "sh":
            assert not title or title in NOT_RUN_HERE
            for line in text.replace("\\\n", " ").splitlines():
                (reader.check if title else reader.run)(line)


def test_every_option_that_a_page_gives_a_command_exists() -> None:
    add_commands()
    group: Any = typer.main.get_command(app)
    options = {
        name: {text for parameter in command.params for text in (*parameter.opts, *parameter.secondary_opts)}
        for name, command in group.commands.items()
    }
    pages = [ROOT / "README.md", ROOT / "training" / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = 0
    for page in pages:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for command, rest in re.findall(r"eomt-ext ([a-z-]+)([^`#\n]*)", text):
            given = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", rest)) if command in options else set()
            assert given <= options.get(command, set()), f"{page.name}: eomt-ext {command}{rest}"
            named += len(given)
    assert named > 100
