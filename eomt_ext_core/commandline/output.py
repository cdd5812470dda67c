"""What a command prints: text for people, or with ``--json`` one value for programs."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import Any, TextIO

from eomt_ext_core.files import valid_text
from eomt_ext_core.progress import hidden_progress

_programs: ContextVar[TextIO | None] = ContextVar("programs", default=None)


@contextmanager
def output_mode(*, as_json: bool, quiet: bool) -> Iterator[None]:
    """Drop the text of a block on standard output, if it prints JSON or is quiet, and in the latter case its progress.

    Problems and errors stay on standard error.
    """
    if not (as_json or quiet):
        yield
        return
    token = _programs.set(sys.stdout if as_json else None)
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
            if quiet:
                with hidden_progress():
                    yield
            else:
                yield
    finally:
        _programs.reset(token)


def print_result(value: Any) -> None:
    """Print the result of a command as JSON if that is asked for; NaN and infinity become null."""
    stream = _programs.get()
    if stream is not None:
        stream.write(json.dumps(_plain(valid_text(value)), indent=2, ensure_ascii=False) + "\n")
        stream.flush()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return valid_text(os.fspath(value))
    return None if isinstance(value, float) and not math.isfinite(value) else value
