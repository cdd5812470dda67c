"""Whether a device runs Triton's kernels, and the fastest way to compute something on it, among ways that agree."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Mapping
from functools import lru_cache

import torch
from torch import Tensor

from eomt_ext_core.kernels.kept_choice import KeptChoice, machine_facts

BF16_CAPABILITY = (8, 0)  # of GPUs that support bfloat16
_CALLS = 20  # queued together, so that launching one hides behind computing the one before

_log = logging.getLogger(__name__)

Way = Callable[[], Tensor]


@lru_cache(maxsize=64)  # so that no frame imports what is not there
def obstacle_to_triton(device: torch.device) -> str | None:
    """Say why a device does not run Triton's kernels; None if it does."""
    if device.type != "cuda":
        return f"Triton kernels need a CUDA device, this is {device}"
    capability = torch.cuda.get_device_capability(device)
    if capability < BF16_CAPABILITY:
        needed = ".".join(map(str, BF16_CAPABILITY))
        return f"Triton kernels need compute capability {needed}, this GPU has {'.'.join(map(str, capability))}"
    try:
        import triton  # noqa: F401
    except ImportError as error:
        return f"Triton cannot be imported: {error}"
    return None


def fastest(what: str, ways: Mapping[str, Way], bound: float, device: torch.device, inputs: str) -> str:
    """Time several ways to compute the same, and log the times and the choice, which is kept for the next start.

    A choice that was kept is taken without timing, if the way still agrees with the plain one.

    Args:
        what: is computed, for the log.
        ways: by name, the first being the plain one, which is the measure of the others. Each is called some
            30 times, and must not depend on the calls before.
        bound: largest difference from the plain result, as a fraction of its largest absolute value; a way that differs
            more, or gives what is not finite, is not chosen.
        device: that computes.
        inputs: what the time depends on beside the size of the result: shapes and types, in text.

    Returns:
        the name of the fastest; of the plain one if its result is not finite, as nothing can be compared with it.
    """
    plain = next(iter(ways))
    expected = ways[plain]()
    largest = float(expected.abs().max())
    if not torch.isfinite(expected).all():  # an image reports it
        _log.warning("%s on %s by %s, as its result is not finite", what, device, plain)
        return plain

    def agrees(name: str) -> bool:
        difference = 0.0 if name == plain else float((ways[name]() - expected).abs().max())
        if not difference <= bound * largest:
            _log.warning("%s by %s differs by %g from %s: not used on %s", what, name, difference, plain, device)
            return False
        return True

    result = f"{tuple(expected.shape)} {expected.dtype}"
    kept = KeptChoice(machine_facts(device) | {"what": what, "inputs": inputs, "result": result}, list(ways))
    known = kept.read()
    if known is not None and agrees(known):
        _log.info("%s on %s by %s, as at an earlier start", what, device, known)
        return known
    times_us = {name: time_us(ways[name], device) for name in ways if name != known and agrees(name)}
    best = min(times_us, key=lambda name: times_us[name])
    measured = ", ".join(f"{name} {time:.0f} µs" for name, time in times_us.items())
    _log.info("%s on %s by %s: %s", what, device, best, measured)
    kept.write(best)
    return best


def time_us(way: Way, device: torch.device) -> float:
    """Measure the microseconds of a call on a CUDA device: the median of several rounds of calls."""
    rounds = []
    for _ in range(3):
        way()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        stream = torch.cuda.current_stream(device)
        begin.record(stream)
        for _ in range(_CALLS):
            way()
        end.record(stream)
        end.synchronize()
        rounds.append(1000 * begin.elapsed_time(end) / _CALLS)
    return float(statistics.median(rounds))
