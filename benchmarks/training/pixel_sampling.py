"""What drawing pixels costs in AuPRC: the demonstration model's head, trained on all pixels and on drawn ones.

Both heads start from the same weights and see the same scenes as often; the network is frozen and its outputs are
cached. They are measured on scenes with obstacles of families that neither network nor head has seen.

    python benchmarks/training/pixel_sampling.py [--network FILE] [--scenes 400] [--epochs 8]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from eomt_ext_training.data.scenes import ProceduralScenes
from eomt_ext_training.demo_model import HELD_OUT_FAMILIES, TEST_SEEDS, Plan, train_its_head
from eomt_ext_training.measure import measure

from eomt_ext_core import AnomalyEngine, EngineConfig, load_model, save_model
from eomt_ext_core.scenes import OBSTACLE_FAMILIES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="demo", help="model with the network for a new head")
    parser.add_argument("--scenes", type=int, default=400, help="of training")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--test-scenes", type=int, default=100)
    parser.add_argument("--cache", type=Path, help="folder for the cache of rendered scenes")
    args = parser.parse_args()
    families = tuple(family for family in OBSTACLE_FAMILIES if family not in HELD_OUT_FAMILIES)
    plan = Plan(head_scenes=args.scenes, head_epochs=args.epochs)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        cache = args.cache or folder / "scenes"
        network = folder / "network.safetensors"
        save_model(load_model(args.network), network)
        unseen = ProceduralScenes(
            (540, 960), args.test_scenes, TEST_SEEDS, obstacle_families=HELD_OUT_FAMILIES, rendered=cache
        )
        auprc = {}
        for name, pixels in (("sampled", plan.pixels_per_crop), ("all", None)):
            began = time.process_time()
            model = train_its_head(replace(plan, pixels_per_crop=pixels), network, families, cache, folder)
            cpu_s = time.process_time() - began
            result = measure(AnomalyEngine(model, EngineConfig(precision="fp32")), unseen, ["head"])["head"]
            auprc[name] = float(result.auprc)
            drawn = f"{pixels} of a crop" if pixels else "all of a crop"
            print(f"{name:8} ({drawn}): AuPRC {result.auprc:.4f}, {cpu_s:.0f} s of CPU", flush=True)
    print(f"difference {auprc['sampled'] - auprc['all']:+.4f}")


if __name__ == "__main__":
    main()
