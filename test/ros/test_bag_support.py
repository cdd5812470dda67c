"""An installation without the extra 'bags', as on a vehicle: all else works, and what needs it says so."""

import subprocess
import sys
import textwrap

import pytest

WITHOUT = """
    import sys
    for name in ("rosbags", "backports", "backports.zstd", "imageio_ffmpeg"):
        sys.modules[name] = None
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    text = textwrap.dedent(WITHOUT) + textwrap.dedent(program)
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=120)


def test_every_entry_point_loads_and_a_folder_is_no_bag(tmp_path):
    done = run(f"""
        from importlib.metadata import entry_points
        from pathlib import Path
        for group in ("eomt_ext.commands", "eomt_ext.checks", "eomt_ext.drives"):
            loaded = [entry.load() for entry in entry_points(group=group)]
            assert loaded
        assert loaded[0](Path({str(tmp_path)!r}), None) is None
    """)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "user"),
    [
        (["replay", "bag.mcap", "--checkpoint", "demo", "--image-topic", "/a", "--output", "out"], "replay"),
        (["demo"], "demo"),
        (["learn-normal", "bag.mcap", "--checkpoint", "demo", "--output", "n.safetensors"], "a bag"),
    ],
)
def test_what_needs_it_names_the_extra(words, user, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bag.mcap").write_bytes(b"")
    done = run(f"""
        sys.argv = ["eomt-ext", *{words!r}]
        from eomt_ext_core.entry import main
        sys.exit(main())
    """)
    assert done.returncode == 1
    assert f"{user} needs rosbags and imageio_ffmpeg: install the extra 'bags'" in " ".join(done.stderr.split())
