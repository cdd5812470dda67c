"""That nothing but the room of images hands a file to OpenCV."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = [ROOT / name for name in ("eomt_ext_core", "eomt_ext_ros", "training/eomt_ext_training", "benchmarks")]
CALL = re.compile(r"cv2\.(?:im(?:read|write|decode)\w*|Video(?:Capture|Writer)|haveImage\w*)\(")
OWN_DATA = {  # what the program has just encoded itself, and a camera's number
    "eomt_ext_core/evaluation/spool.py": ["cv2.imdecode("],
    "eomt_ext_core/scenes/faults.py": ["cv2.imdecode("],
    "eomt_ext_core/scenes/weather.py": ["cv2.imdecode("],
    "eomt_ext_ros/demo/camera.py": ["cv2.VideoCapture("],
    "training/eomt_ext_training/built_in/looks/sensor.py": ["cv2.imdecode("],
}


def sources() -> list[Path]:
    room = ROOT / "eomt_ext_core" / "images"
    return [path for folder in FOLDERS for path in sorted(folder.rglob("*.py")) if room not in path.parents]


def test_files_are_decoded_in_one_room() -> None:
    calls = {str(path.relative_to(ROOT)): CALL.findall(path.read_text(encoding="utf-8")) for path in sources()}
    assert len(calls) > 100
    assert {name: found for name, found in calls.items() if found} == OWN_DATA
