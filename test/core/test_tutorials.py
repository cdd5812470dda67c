"""The tutorials, run block by block as they are written, on files as a reader has them."""

import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from eomt_ext_core import EoMT, ModelConfig
from eomt_ext_core.cli import add_commands, app
from eomt_ext_core.images import VideoWriter
from eomt_ext_core.scenes import SceneConfig, render_scene, render_video

PAGES = Path(__file__).resolve().parents[2] / "docs" / "tutorials"
BLOCK = re.compile(r"^```(sh|python)( title=\"[^\"]*\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SIZE = SceneConfig(size_hw=(135, 240))
NOT_RUN_HERE = {"in a clone of the repository", "needs ROS 2", "needs a recorded bag"}


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


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all files that the tutorials name."""
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "road.png"), render_scene(3, SIZE).image_rgb[..., ::-1])
    write_video(tmp_path / "drive.mp4", 4)
    write_video(tmp_path / "later.mp4", 2)
    write_labelled(tmp_path / "labelled", 8)
    write_labelled(tmp_path / "mine", 2, (1, 150, 0))
    network = EoMT(ModelConfig("vit_small_patch14_reg4_dinov2", (224, 224), num_queries=20, num_classes=19))
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    state["network.attn_mask_probs"] = torch.zeros(network.config.num_blocks)
    torch.save(state, tmp_path / "eomt_cityscapes.bin")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda path: path.stem)
def test_every_block_runs(page: Path, desk: Path) -> None:
    add_commands()
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert blocks
    for language, title, text in blocks:
        if title:
            assert re.findall('"(.*)"', title)[0] in NOT_RUN_HERE
        elif language == "python":
            exec(compile(text, page.name, "exec"), {})
        else:
            for line in text.splitlines():
                program, *words = shlex.split(line, comments=True)
                assert program == "eomt-ext", line
                result = CliRunner().invoke(app, words)
                allowed = (0, 3) if words[0] == "doctor" else (0,)
                assert result.exit_code in allowed, f"{line}\n{result.output}\n{result.exception!r}"
