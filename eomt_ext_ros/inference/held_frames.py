"""What an exception keeps in memory: the frames that it came through, with all that their variables hold."""

from __future__ import annotations

import traceback


def chain(error: BaseException) -> list[BaseException]:
    """An exception, and those that it came of."""
    links = [error]
    for link in links:  # which grows meanwhile
        for origin in (link.__cause__, link.__context__):
            if origin is not None and not any(origin is known for known in links):
                links.append(origin)
    return links


def forget_frames(error: BaseException) -> None:
    """Let go of the frames of an exception and of those that it came of: it can be kept, and tells no traceback."""
    for link in chain(error):
        link.__traceback__ = None


def empty_frames(error: BaseException) -> None:
    """Let go of the variables in these frames, but for those still running: the traceback can be told."""
    for link in chain(error):
        traceback.clear_frames(link.__traceback__)
