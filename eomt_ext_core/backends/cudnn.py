"""Settings of cuDNN, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def cudnn_settings(**settings: bool) -> Iterator[None]:
    """Change attributes of ``torch.backends.cudnn`` and put them back; all others stay as they are.

    ``torch.backends.cudnn.flags`` does not: what it is not told it sets to defaults, and cuDNN is off by them.
    """
    before = {name: getattr(torch.backends.cudnn, name) for name in settings}
    try:
        for name, value in settings.items():
            setattr(torch.backends.cudnn, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(torch.backends.cudnn, name, value)
