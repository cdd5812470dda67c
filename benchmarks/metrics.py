"""Streaming metrics over many generated frames: peak memory, and speed per pixel beside scikit-learn in the same run.

Both work in one thread, and its CPU time is measured, so that other load on the machine affects neither.

    python benchmarks/metrics.py --frames 1000
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.evaluation import PixelMetrics

HEIGHT, WIDTH = 1080, 1920
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class FrameSource:
    """Scores as a sigmoid gives them and labels with 2 % anomalous and some void pixels, different in every frame."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self._logits = rng.normal(-4, 2, (HEIGHT, WIDTH)).astype(np.float32)
        self._labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        self._labels[540:740, 900:1110] = 1
        self._logits[self._labels == 1] += 5
        self._labels[-80:] = 255
        self._rng = rng

    def frame(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        shift, scale = self._rng.normal(0, 0.5), self._rng.uniform(0.8, 1.2)
        columns = int(self._rng.integers(WIDTH))
        logits = np.roll(self._logits, columns, axis=1)
        scores = 1 / (1 + np.exp(-(logits * np.float32(scale) + np.float32(shift))))
        return scores.astype(np.float32), np.roll(self._labels, columns, axis=1)


class PeakMemory:
    """Watches the resident memory of this process from a thread, every few milliseconds."""

    def __init__(self) -> None:
        self.start_bytes = self.peak_bytes = resident_bytes()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._ended.wait(0.002):
            self.peak_bytes = max(self.peak_bytes, resident_bytes())

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.peak_bytes = max(self.peak_bytes, resident_bytes())

    @property
    def growth_mib(self) -> float:
        return (self.peak_bytes - self.start_bytes) / 2**20


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--sklearn-frames", type=int, default=20, help="frames given to scikit-learn at once")
    options = parser.parse_args()

    source = FrameSource()
    source.frame()  # its own temporaries are no growth
    metrics, seconds = PixelMetrics(), 0.0
    with PeakMemory() as memory:
        for _ in range(options.frames):
            scores, labels = source.frame()
            started = time.thread_time()
            metrics.update(scores, labels)
            seconds += time.thread_time() - started
        started = time.thread_time()
        result = metrics.compute()
        seconds += time.thread_time() - started
    pixels = options.frames * HEIGHT * WIDTH

    from sklearn.metrics import average_precision_score, roc_curve

    frames = [source.frame() for _ in range(options.sklearn_frames)]
    valid = [labels != 255 for _, labels in frames]
    all_scores = np.concatenate([scores[mask] for (scores, _), mask in zip(frames, valid, strict=True)])
    all_labels = np.concatenate([labels[mask] for (_, labels), mask in zip(frames, valid, strict=True)])
    started = time.thread_time()
    average_precision_score(all_labels, all_scores)
    roc_curve(all_labels, all_scores)
    sklearn_seconds = time.thread_time() - started
    sklearn_pixels = options.sklearn_frames * HEIGHT * WIDTH

    ours, theirs = 1e9 * seconds / pixels, 1e9 * sklearn_seconds / sklearn_pixels
    report = {
        "frames": options.frames,
        "peak_growth_mib": round(memory.growth_mib, 1),
        "seconds": round(seconds, 2),
        "ns_per_pixel": round(ours, 2),
        "sklearn_frames": options.sklearn_frames,
        "sklearn_seconds": round(sklearn_seconds, 2),
        "sklearn_ns_per_pixel": round(theirs, 2),
        "times_faster": round(theirs / ours, 1),
        "auprc": result.auprc,
        "auprc_error_bound": result.auprc_error_bound,
        "machine": f"{platform.processor() or platform.machine()}, numpy {np.__version__}",
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
