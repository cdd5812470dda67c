"""Measure the engine on a GPU: correctness, speed, memory, and the same beside other ways, in under eight minutes.

Needs torch ≥ 2.11, triton ≥ 3.6, timm, transformers, OpenCV, typer, rich, hypothesis and pytest, and nothing else: no
ROS, no installed package, no network. The most important parts come first, and their figures are in DIR/gpu.json as
soon as they are known, so that a run that is cut short is worth something.

    python benchmarks/gpu.py --output DIR                # on the GPU
    python benchmarks/gpu.py --output DIR --quick        # on any machine: that it runs, not how fast
    python benchmarks/gpu.py --output DIR --parts profile,resources   # need no GPU
    python benchmarks/gpu_page.py DIR                    # write the section of docs/performance.md
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.gpu_parts.run import BY_NAME, PARTS, run, run_here, setting_of, write
from benchmarks.gpu_parts.table import show

# The parts that need no GPU to mean something.
_ANYWHERE = {"profile", "resources"}


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    import torch

    device = args.device if args.device != "auto" else "cuda:0" if torch.cuda.is_available() else "cpu"
    if args.one_part:
        outcome = run_here(args.one_part, setting_of(device, args.quick), lambda found: write(args.into, found))
        write(args.into, outcome)
        return 0
    names = args.parts.split(",") if args.parts else [part.name for part in PARTS]
    unknown = [name for name in names if name not in BY_NAME]
    if unknown or args.output is None:
        print(f"--output must name a folder, and --parts must be of {', '.join(BY_NAME)}, got {args.output}, {unknown}")
        return 2
    if device == "cpu" and not args.quick and not set(names) <= _ANYWHERE:
        print("there is no GPU: use --quick to see that it runs, or --parts profile,resources")
        return 2
    args.output.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a run that is ended keeps what it has, as on Ctrl-C
    apart = args.apart or not args.quick
    result = run(args.output, names, device, args.quick, args.minutes, apart, lambda line: print(line, flush=True))
    show(result)
    return int(any(part["state"] != "measured" for part in result["parts"].values()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="folder for gpu.json")
    parser.add_argument("--quick", action="store_true", help="small sizes and the demo model: that it runs")
    parser.add_argument("--parts", default="", help=f"some of {', '.join(BY_NAME)}; all if not given")
    parser.add_argument("--minutes", type=float, default=8.0, help="most minutes of the run")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--apart", action="store_true", help="with --quick too, each part in a process of its own")
    parser.add_argument("--one-part", default="", help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
