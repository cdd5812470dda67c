"""Temporary settings of cuDNN."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def cudnn_settings(**settings: bool) -> Iterator[None]:
    """Change attributes of ``torch.backends.cudnn`` in a block, and no others.

    ``torch.backends.cudnn.flags`` resets all others to defaults, which switch cuDNN off.
    """
    before = {name: getattr(torch.backends.cudnn, name) for name in settings}
    try:
        for name, value in settings.items():
            setattr(torch.backends.cudnn, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(torch.backends.cudnn, name, value)
