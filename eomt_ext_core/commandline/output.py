"""What a command prints: text for people, or with ``--json`` one value for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import Any, TextIO

from eomt_ext_core.files import valid_text, without_nan
from eomt_ext_core.progress import hidden_progress

_programs: ContextVar[TextIO | None] = ContextVar("programs", default=None)


@contextmanager
def output_mode(*, as_json: bool, quiet: bool) -> Iterator[None]:
    """Print no text of a block on standard output if it prints JSON or is quiet; if quiet, show no progress either.

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
        stream.write(json.dumps(without_nan(valid_text(value)), indent=2, ensure_ascii=False, default=_text) + "\n")
        stream.flush()


def _text(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return valid_text(os.fspath(value))
    raise TypeError(f"JSON has no {type(value).__name__}")
