"""Process the images of several cameras in one batch: python examples/several_cameras.py front.png left.png"""

import sys
from pathlib import Path

from eomt_ext_core import AnomalyEngine, EngineConfig
from eomt_ext_core.images import read_rgb


def main(*sources: str) -> None:
    engine = AnomalyEngine.load("demo", EngineConfig(device="auto"))
    engine.warm_up()  # on a GPU: compiles and captures now, so that the first frame is as fast as all others
    frames = engine.infer_batch([read_rgb(source) for source in sources], semantic=True)
    for source, frame in zip(sources, frames, strict=True):
        assert frame.semantic is not None, "it was asked for"
        road = (frame.semantic == engine.class_names.index("road")).mean()
        print(f"{Path(source).stem}: {frame.mask.mean():.2%} unexpected, {road:.0%} road")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
