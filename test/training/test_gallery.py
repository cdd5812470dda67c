"""The gallery: its page is that of the shipped model, and its things stand on the road."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from eomt_ext_core import AnomalyEngine, EngineConfig, load_model
from eomt_ext_core.files import sha256_of
from eomt_ext_core.model.checkpoint import resolve_source

ROOT = Path(__file__).resolve().parents[2]
PHOTO = ROOT.parent / "shared" / "road_frames" / "solidWhiteCurve.jpg"


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("gallery_under_test", ROOT / "docs" / "gallery.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_shows_the_shipped_model(program):
    text = (ROOT / "docs" / "gallery.md").read_text("utf-8")
    assert text.startswith(program.HEAD), "run: python docs/gallery.py"
    assert sha256_of(resolve_source("demo")) in text, "run: python docs/gallery.py"


def test_things_are_pasted_onto_the_road_and_nowhere_else(program):
    photo = np.full((540, 960, 3), 128, np.uint8)
    littered, things = program.with_things(photo, np.random.default_rng(3))
    changed = (littered != photo).any(axis=2)
    assert len(things) == program.THINGS
    assert all(changed[thing].mean() > 0.9 for thing in things)
    assert not changed[: int(0.3 * 540)].any()


@pytest.mark.skipif(not PHOTO.exists(), reason="needs shared/road_frames")
def test_a_photograph_gives_three_pictures_and_counts(program):
    engine = AnomalyEngine(load_model("demo"), EngineConfig(device="cpu", precision="fp32"))
    shot = program.shoot(PHOTO, engine, np.random.default_rng(program.SEED))
    assert shot.picture.shape == (270, 3 * 480, 3)
    assert (shot.pasted, shot.found) == (3, 3)
    text = "".join(program.page([shot], "abc"))
    assert f"{shot.false_alarms} false alarms in 1 photographs, and 3 of 3 pasted things found" in text
