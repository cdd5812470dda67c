"""Description of the machine of a benchmark."""

from __future__ import annotations

import os
import platform

import torch

from eomt_ext_core.backends.device import device_name


def describe_machine(device: torch.device) -> dict[str, str]:
    """Describe what the results depend on: processor, cores, memory, other load, versions, and the GPU in use."""
    described = {
        "processor": f"{device_name(torch.device('cpu'))}, {len(os.sched_getaffinity(0))} cores, "
        f"torch uses {torch.get_num_threads()} threads and {torch.backends.cpu.get_cpu_capability()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "other load": f"{os.getloadavg()[0]:.1f} processes in the minute before",
        "software": f"Python {platform.python_version()}, torch {torch.__version__}, {platform.system()}",
    }
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():  # a runtime sees what torch does not
        described["GPU"] = f"GPU {device.index or 0}"
    elif device.type == "cuda":
        size_gib = torch.cuda.get_device_properties(device).total_memory / 2**30
        described["GPU"] = f"{device_name(device)}, {size_gib:.0f} GiB, CUDA {torch.version.cuda}"
    return described
