"""What an exception keeps in memory: the frames of its traceback, with all that their variables hold."""

from __future__ import annotations

import traceback


def chain(error: BaseException) -> list[BaseException]:
    """List an exception, its causes and its contexts."""
    links = [error]
    for link in links:  # which grows meanwhile
        for origin in (link.__cause__, link.__context__):
            if origin is not None and not any(origin is known for known in links):
                links.append(origin)
    return links


def drop_tracebacks(error: BaseException) -> None:
    """Drop the traceback of an exception, and those of its causes, so that it can be kept without what they hold."""
    for link in chain(error):
        link.__traceback__ = None


def clear_traceback_locals(error: BaseException) -> None:
    """Clear the variables in these tracebacks, which can still be logged; frames that still run keep theirs."""
    for link in chain(error):
        traceback.clear_frames(link.__traceback__)
