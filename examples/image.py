"""Find the unexpected in an image, and draw it: python examples/image.py road.png overlay.png"""

import sys

from eomt_ext_core import AnomalyEngine, EngineConfig
from eomt_ext_core.images import read_rgb, write_image
from eomt_ext_core.visualization import overlay


def main(source: str, result: str) -> None:
    engine = AnomalyEngine.load("demo", EngineConfig(device="auto"))
    image_rgb = read_rgb(source)
    frame = engine.infer(image_rgb)
    print(f"{frame.mask.mean():.2%} of {source} is unexpected, largest probability {frame.probability.max():.2f}")
    write_image(result, overlay(image_rgb, frame.probability, frame.mask)[..., ::-1])  # BGR, as in OpenCV


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
