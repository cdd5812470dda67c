"""What all tests share: repeatable examples, GPU tests that skip without a GPU, and Ctrl-C as for a person."""

import signal

import pytest
from hypothesis import settings

# The same examples in every run: a run differs by what was changed. --hypothesis-profile default looks for new ones.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


def pytest_configure() -> None:
    """A shell starts what runs in its background with SIGINT ignored, and processes that tests start inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
