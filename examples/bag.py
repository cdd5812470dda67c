"""List the most unexpected images of a recorded bag, without ROS: python examples/bag.py BAG /camera/image_raw"""

import sys

from eomt_ext_core import AnomalyEngine, ImageError
from eomt_ext_ros.bags import Bag
from eomt_ext_ros.bags.messages import deserialize, image_rgb, stamp_ns


def main(path: str, topic: str) -> None:
    engine, fractions = AnomalyEngine.load("demo"), []
    with Bag(path) as bag:
        for message in bag.messages([topic]):
            data = bag.read(message)
            try:
                frame = engine.infer(image_rgb(deserialize(data, message.msgtype), message.msgtype))
            except ImageError as error:  # a recording may be damaged: go on with the next image
                print(f"skipped: {error}")
                continue
            fractions.append((float(frame.mask.mean()), stamp_ns(data) / 1e9))
    for fraction, stamp_s in sorted(fractions, reverse=True)[:10]:
        print(f"{stamp_s:.3f} s: {fraction:.2%} of the image is unexpected")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
