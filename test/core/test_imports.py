"""The one-way directions of imports, read from the sources."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Collection
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE, ROS, TRAINING = "eomt_ext_core", "eomt_ext_ros", "eomt_ext_training"
PACKAGES = {CORE: ROOT / CORE, ROS: ROOT / ROS, TRAINING: ROOT / "training" / TRAINING}

# Parts of the core from the ground up; a part imports what stands lower, never its neighbour or what stands higher.
FLOORS = [
    {"errors"},
    {"config", "processor", "stages", "kernels"},
    {"windows", "scoring", "obstacles", "images", "health"},
    {"model", "datasets", "ground", "tracking", "intervals"},
    {"normality"},
    {"backends"},
    {"runtimes"},
    {"export"},
    {"engine"},
    {"about", "evaluation", "bench"},
    {"comparison", "commandline"},
    {"commands"},
    {"evidence"},
    {"cli"},
    {"entry"},
]
FLOOR_OF = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
# The same of the rooms of the ROS package.
ROOMS = [
    {"messages", "workers"},
    {"outputs"},
    {"parameters", "process"},
    {"bags", "diagnostics", "inference"},
    {"pipeline", "bag_support"},
    {"node", "replay"},
    {"demo", "doctor"},
    {"entry"},
]
FLOOR_OF_ROOM = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
MOST_FILES = 12
ALONE = {"visualization", "scenes"}
ANYONES = {"exits", "files", "fingerprint", "progress"}
# What stands on top of the product: nothing that runs on a vehicle imports it.
ON_TOP = {
    "about",
    "commandline",
    "comparison",
    "intervals",
    "evaluation",
    "bench",
    "scenes",
    "commands",
    "evidence",
    "cli",
    "entry",
}
OFFLINE_ROOMS = {"replay", "demo", "doctor"}
NOT_IN_CORE = {
    ROS, TRAINING, "rclpy", "sensor_msgs", "std_msgs", "std_srvs", "diagnostic_msgs", "lifecycle_msgs", "cv_bridge",
    "rcl_interfaces", "builtin_interfaces", "launch", "launch_ros", "ament_index_python", "rosbags", "rosbag2_py",
}  # fmt: skip
FORBIDDEN = {CORE: NOT_IN_CORE, ROS: {TRAINING}, TRAINING: {ROS}}


def module_name(path: Path, package: str) -> str:
    parts = (package, *path.relative_to(PACKAGES[package]).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def public_homes() -> dict[str, str]:
    """Names that the core's ``__init__`` hands out, to the modules they live in."""
    tree = ast.parse((PACKAGES[CORE] / "__init__.py").read_text(encoding="utf-8"))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    return {alias.name: str(node.module) for node in found for alias in node.names if node.module.startswith(CORE)}  # type: ignore[union-attr]


def imports_of(source: str, module: str, is_package: bool = False) -> set[str]:
    """Absolute names of everything that a module imports, wherever in it and on whatever condition."""
    homes, found = public_homes(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = module.split(".") if is_package else module.split(".")[:-1]
                above = here[: len(here) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                public = base == CORE and alias.name in homes
                found.add(homes[alias.name] if public else f"{base}.{alias.name}")
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found |= {str(part.value) for part in node.args[:1] if isinstance(part, ast.Constant)}
    return found


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    package, *inside = module.split(".")
    if not inside and package == CORE:
        return []  # the facade names what is public and imports it when it is asked for
    wrong = []
    for name in sorted(imports_of(source, module, is_package)):
        top, *rest = name.split(".")
        inner = package == top in (CORE, ROS) and inside and rest and rest[0] != inside[0]
        above = top == CORE and rest and rest[0] in on_top_of(package, inside)
        if top in FORBIDDEN[package] or above or (inner and not allowed(package, inside[0], rest[0])):
            wrong.append(f"{module} imports {name}")
    return wrong


def on_top_of(package: str, inside: list[str]) -> set[str]:
    """The parts of the core that a module must not import because it runs on a vehicle, or reads what people label."""
    if package == TRAINING:
        return {"evaluation"} if inside[:1] == ["data"] else set()
    offline = inside and inside[0] in (ON_TOP if package == CORE else OFFLINE_ROOMS)
    return set() if offline else ON_TOP


def allowed(package: str, part: str, other: str) -> bool:
    return may_import(part, other) if package == CORE else FLOOR_OF_ROOM[other] < FLOOR_OF_ROOM[part]


def may_import(part: str, other: str) -> bool:
    if other in ANYONES:
        return part != "errors"
    if part in ALONE | ANYONES:
        return other == "errors"
    if other in ALONE:
        return FLOOR_OF[part] > FLOOR_OF["model"]
    return FLOOR_OF[other] < FLOOR_OF[part]


def sources() -> list[tuple[str, str]]:
    return [(package, str(path)) for package, folder in PACKAGES.items() for path in sorted(folder.rglob("*.py"))]


def test_there_is_something_to_read() -> None:
    names = {module_name(Path(path), package) for package, path in sources()}
    assert {"eomt_ext_core", "eomt_ext_core.engine", "eomt_ext_core.model.checkpoint"} <= names
    assert any(name.startswith(ROS) for name in names)


def test_every_part_of_the_core_has_its_place() -> None:
    known = FLOOR_OF.keys() | ALONE | ANYONES | {"assets"}
    parts = {path.stem for path in PACKAGES[CORE].iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert parts - known - {"__init__", "__main__"} == set()


def test_every_room_of_the_node_has_its_floor() -> None:
    parts = {path.stem for path in PACKAGES[ROS].iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert parts == FLOOR_OF_ROOM.keys() | {"__init__"}


def test_no_folder_of_the_node_holds_more_than_a_dozen_files() -> None:
    counts = Counter(path.parent for path in PACKAGES[ROS].rglob("*.py"))
    assert [folder for folder, count in counts.items() if count > MOST_FILES] == []


def test_no_modules_of_the_node_import_each_other_in_a_circle() -> None:
    files = {module_name(path, ROS): path for path in PACKAGES[ROS].rglob("*.py")}
    graph = {
        module: {known for name in imports_of(path.read_text(encoding="utf-8"), module, path.stem == "__init__")
                 if (known := home_of(name, files.keys())) and known != module}
        for module, path in files.items()
    }  # fmt: skip
    assert sum(map(len, graph.values())) > len(files), "there is something to read"
    list(TopologicalSorter(graph).static_order())  # which raises CycleError, naming the circle


def home_of(name: str, modules: Collection[str]) -> str:
    """The module that a name is imported from, or empty."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


@pytest.mark.parametrize(("package", "path"), sources(), ids=lambda value: value.removeprefix(f"{ROOT}/"))
def test_imports_run_one_way(package: str, path: str) -> None:
    file = Path(path)
    assert violations(file.read_text(encoding="utf-8"), module_name(file, package), file.stem == "__init__") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("eomt_ext_core.windows", "from eomt_ext_core.engine import AnomalyEngine"),
        ("eomt_ext_core.windows", "from eomt_ext_core import engine"),
        ("eomt_ext_core.windows", "from eomt_ext_core import AnomalyEngine"),
        ("eomt_ext_core.windows", "from . import engine"),
        ("eomt_ext_core.windows", "from eomt_ext_core.scoring import uncertainty"),
        ("eomt_ext_core.images.decoder", "from eomt_ext_core.windows import plan"),
        ("eomt_ext_core.scoring.factored", "from ..model import eomt"),
        ("eomt_ext_core.scoring.factored", "from ..model.eomt import EoMT"),
        ("eomt_ext_core.config", "import eomt_ext_core.windows"),
        ("eomt_ext_core.visualization", "from eomt_ext_core.config import EngineConfig"),
        ("eomt_ext_core.files", "from eomt_ext_core.config import EngineConfig"),
        ("eomt_ext_core.model.eomt", "if TYPE_CHECKING:\n    from eomt_ext_core.engine import AnomalyEngine"),
        ("eomt_ext_core.engine", "def late():\n    import rclpy.node"),
        ("eomt_ext_core.export.check", "from eomt_ext_core.scenes import render_scene"),
        ("eomt_ext_core.engine", "from eomt_ext_core.evaluation import VOID"),
        ("eomt_ext_ros.messages.images", "from eomt_ext_core.scenes import SceneConfig"),
        ("eomt_ext_ros.node", "from eomt_ext_core import bench"),
        ("eomt_ext_core.cli", "importlib.import_module('eomt_ext_ros.demo')"),
        ("eomt_ext_ros.node", "from eomt_ext_training import head_training"),
        ("eomt_ext_ros.pipeline.camera", "from eomt_ext_ros.node import AnomalyNode"),
        ("eomt_ext_ros.diagnostics.snapshot", "if TYPE_CHECKING:\n    from eomt_ext_ros.pipeline import pipeline"),
        ("eomt_ext_ros.inference.inference", "from eomt_ext_ros.diagnostics.throttled_log import ThrottledLog"),
        ("eomt_ext_training.head", "import eomt_ext_ros"),
        ("eomt_ext_training.data.sample", "from eomt_ext_core.evaluation import VOID"),
    ],
)
def test_a_wrong_direction_is_seen(module: str, source: str) -> None:
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("eomt_ext_core.engine", "from eomt_ext_core import windows\nfrom eomt_ext_core.errors import ConfigError"),
        ("eomt_ext_core.engine", "from eomt_ext_core import EoMTExt"),
        ("eomt_ext_core.scoring.factored", "from .uncertainty import statistics\nfrom ..config import HeadConfig"),
        ("eomt_ext_core.scenes.world", "from eomt_ext_core.files import atomic_write\nimport numpy as np"),
        ("eomt_ext_core.cli", "from eomt_ext_core.scenes import render"),
        ("eomt_ext_ros.pipeline.camera", "from eomt_ext_ros.messages import images\nfrom .timeline import Timeline"),
        ("eomt_ext_ros.node", "import rclpy\nfrom eomt_ext_core import AnomalyEngine"),
        ("eomt_ext_ros.demo.camera", "from eomt_ext_core.scenes import SceneVideo"),
        ("eomt_ext_training.head", "from eomt_ext_core.scoring.anomaly_head import PixelAnomalyHead"),
    ],
)
def test_a_right_direction_is_let_through(module: str, source: str) -> None:
    assert violations(source, module) == []


def test_importing_the_package_alone_is_light() -> None:
    heavy = ["torch", "timm", "cv2", "numpy", "transformers"]
    program = f"import sys, eomt_ext_core; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_to_be_had() -> None:
    import eomt_ext_core

    assert {name: getattr(eomt_ext_core, name).__name__ for name in eomt_ext_core.__all__} == {
        name: name for name in eomt_ext_core.__all__
    }
    assert set(eomt_ext_core.__all__) == set(public_homes())
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        eomt_ext_core.nonsense  # noqa: B018
