"""Which way was the fastest at an earlier start, kept in the user's cache, so that the next one need not time it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from eomt_ext_core.errors import OutputError
from eomt_ext_core.files import atomic_write, cache_folder
from eomt_ext_core.fingerprint import fingerprint_of

_MOST_BYTES = 1 << 16
_DRIVER = Path("/proc/driver/nvidia/version")
_ROOMS = ("backends", "kernels", "scoring")  # whose code computes the ways

_log = logging.getLogger(__name__)


class KeptChoice:
    """A choice between ways to compute something, in a file of its own for all that it depends on.

    A file that is damaged, or of another choice, is ignored; so is a cache that cannot be read or written.

    Args:
        facts: what the choice depends on, in text.
        ways: their names.
    """

    def __init__(self, facts: Mapping[str, str], ways: Sequence[str]) -> None:
        self._facts = dict(facts) | {"ways": ", ".join(ways)}
        self._ways = ways

    @property
    def path(self) -> Path:
        """Of the file; another one for other facts, and for other code."""
        root = Path(__file__).parents[1]
        code = [path for room in _ROOMS for path in (root / room).glob("*.py")]
        return cache_folder("choices") / f"{fingerprint_of(sorted(self._facts.items()), code)}.json"

    def read(self) -> str | None:
        """Return the way that was chosen; None if that is not known."""
        try:
            path = self.path
            if not path.is_file():
                return None
            with path.open("rb") as file:
                text = file.read(_MOST_BYTES + 1)
            if len(text) > _MOST_BYTES:
                raise ValueError(f"it must have at most {_MOST_BYTES} bytes")
            kept = json.loads(text)
            if not isinstance(kept, dict) or kept.get("facts") != self._facts or kept.get("way") not in self._ways:
                raise ValueError("it must name these facts and one of these ways")
        except (OSError, ValueError, RuntimeError) as error:  # the last of nesting, and of a user without a home
            _log.debug("a kept choice is ignored: %s", error)
            return None
        return str(kept["way"])

    def write(self, way: str) -> None:
        """Keep the way that is chosen."""
        try:
            with atomic_write(self.path) as temporary:
                temporary.write_text(json.dumps({"facts": self._facts, "way": way}) + "\n", encoding="utf-8")
        except (OutputError, OSError, RuntimeError) as error:
            _log.debug("a choice is not kept: %s", error)


@lru_cache(maxsize=16)
def machine_facts(device: torch.device) -> dict[str, str]:
    """Describe what times on a device depend on: device, driver, and the versions of torch, its CUDA, and Triton.

    The driver is ``unknown`` on a system that does not tell its version, such as Jetson and WSL.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    try:
        triton = version("triton")
    except PackageNotFoundError:
        triton = "none"
    try:
        driver = _DRIVER.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    except OSError:
        driver = "unknown"
    versions = {"torch": str(torch.__version__), "cuda": str(torch.version.cuda), "triton": triton}
    return {"device": name, "driver": driver, **versions}
