"""The end of a command: a message and an exit status instead of a traceback; and descriptions of exit codes."""

from __future__ import annotations

import os
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eomt_ext_core.errors import EomtExtError

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130
DEBUG_VARIABLE = "EOMT_EXT_DEBUG"
"""If this variable is set, the traceback of an error is shown before its message."""

_PACKAGES = ("eomt_ext_core", "eomt_ext_ros", "eomt_ext_training")
_MOST_CHARACTERS = 400
_CRASHES = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE")


@contextmanager
def exit_on_error(program: str) -> Iterator[None]:
    """Convert whatever ends a command early to a message on standard error and ``SystemExit``.

    The status is 130 after Ctrl-C and 1 after an error; ``SystemExit`` keeps its own status. If the reader of standard
    output has gone, as with ``head``, the command ends with 1 and without a message. Deprecation warnings are hidden
    meanwhile.

    Args:
        program: name at the beginning of the message.
    """
    try:
        try:
            with _without_deprecations():
                yield
        finally:
            _flush_output()
    except KeyboardInterrupt as error:
        _say(program, "interrupted", error)
        raise SystemExit(EXIT_INTERRUPTED) from error
    except SystemExit as end:
        if end.code in (None, 0, EXIT_INTERRUPTED) or not _is_interruption(end):
            raise
        _say(program, "interrupted", end)
        raise SystemExit(EXIT_INTERRUPTED) from end
    except Exception as error:
        if not (isinstance(error, BrokenPipeError) and _has_lost_its_reader()):
            _say(program, describe_error(error), error)
        if isinstance(error, OSError):
            _discard_output()
        raise SystemExit(EXIT_ERROR) from error


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """Hide what other packages tell their developers, unless a developer looks."""
    with warnings.catch_warnings():
        if not (sys.warnoptions or os.environ.get(DEBUG_VARIABLE)):
            for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
                warnings.simplefilter("ignore", category)
        yield


def describe_error(error: Exception) -> str:
    """Describe an error to users: the message of our own errors; type, message and place of others."""
    if isinstance(error, EomtExtError):
        return str(error)
    text = " ".join(str(error).split())
    text = text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"
    if isinstance(error, OSError) and error.strerror:
        names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
        return f"{' and '.join(names)}: {error.strerror}" if names else f"{error.strerror} ({_place(error)})"
    if isinstance(error, OSError) and text:
        return text  # raised in Python, not by the system
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        return f"out of memory: use smaller images, a smaller model or fewer workers{f' ({text})' if text else ''}"
    if type(error).__name__ == "OutOfMemoryError":  # torch's, without importing torch
        return f"out of GPU memory: {text}"
    module, name = type(error).__module__.partition(".")[0], type(error).__name__
    kind = name if module == "builtins" else f"{module}.{name}"
    return f"unexpected {kind}{f': {text}' if text else ''} ({_place(error)})"


def describe_exit(exit_code: int | None) -> str:
    """Describe how a process ended, from its exit code, which is negative for a signal.

    >>> describe_exit(-9)
    'was ended by SIGKILL, which the system sends if memory runs out'
    >>> describe_exit(-11), describe_exit(3), describe_exit(None)
    ('crashed (SIGSEGV)', 'ended with status 3', 'has not ended')
    """
    if exit_code is None:
        return "has not ended"
    if exit_code >= 0:
        return f"ended with status {exit_code}"
    name = signal.Signals(-exit_code).name if -exit_code in set(signal.Signals) else f"signal {-exit_code}"
    if name in _CRASHES:
        return f"crashed ({name})"
    return f"was ended by {name}" + (", which the system sends if memory runs out" if name == "SIGKILL" else "")


def _flush_output() -> None:
    """Flush standard output now, so that a full disk or a closed pipe is an error of the command."""
    try:
        sys.stdout.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error


def _discard_output() -> None:
    """Discard unwritten standard output, which Python would try to write again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _has_lost_its_reader() -> bool:
    """Whether the reader of standard output has gone, rather than that of another pipe."""
    with suppress(OSError, ValueError):  # if it is not a file
        descriptor, poll = sys.stdout.fileno(), select.poll()
        poll.register(descriptor, select.POLLOUT)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    return False


def _is_interruption(error: BaseException | None) -> bool:
    """Whether Ctrl-C is the cause of an error; Lightning and Typer convert it to their own exit statuses."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _say(program: str, text: str, error: BaseException) -> None:
    red, plain = ("\x1b[31m", "\x1b[0m") if sys.stderr.isatty() else ("", "")
    with suppress(OSError):
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exception(error)
        print(f"{red}{program}: {text}{plain}", file=sys.stderr)


def _place(error: Exception) -> str:
    """Return the innermost line of our code in the traceback, and how to show the whole traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if set(_PACKAGES) & set(Path(frame.filename).parts)]
    ours = [frame for frame in ours if frame.filename != __file__]
    place = "".join(f"{Path(frame.filename).name}, line {frame.lineno}; " for frame in (ours or frames)[-1:])
    return f"{place}{DEBUG_VARIABLE}=1 shows the traceback"
