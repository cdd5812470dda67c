"""Try a score of your own on the frozen network: python examples/custom_score.py road.png heatmap.png

The score here is one minus the margin between the two strongest semantic classes of a pixel. To have a score in the
engine, the node and every command, see docs/how_to/score.md.
"""

import sys

import torch

from eomt_ext_core import WindowConfig, load_model, windows
from eomt_ext_core.images import read_rgb, write_image
from eomt_ext_core.scoring.uncertainty import semantic_map
from eomt_ext_core.visualization import heatmap


@torch.inference_mode()
def main(source: str, result: str) -> None:
    model = load_model("demo")
    image = torch.from_numpy(read_rgb(source)).permute(2, 0, 1)
    crop_hw = model.config.crop_hw
    plan = windows.plan((image.shape[1], image.shape[2]), crop_hw, WindowConfig())
    masks, classes, _ = model.network(windows.cut(image, plan) / 255)
    strongest = semantic_map(masks, classes, crop_hw).topk(2, dim=1).values
    margin = strongest[:, :1] - strongest[:, 1:]
    score = windows.to_image_size(windows.stitch(1 - margin, plan), plan)
    write_image(result, heatmap(score[0].clamp(0, 1).numpy())[..., ::-1])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
