"""Run cases one after the other, as a child of ``run``: a JSON object a line in on stdin, one out on a pipe.

The network is taken away first: the kernel's, if that is allowed (``unshare``), and each request of Python's, which is
recorded too.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import importlib
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_NEW_NETWORK, _NEW_USER = 0x40000000, 0x10000000
_NETWORK_EVENTS = ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname")


class Watch:
    """Refuses requests to the network, and records them and other events that no case may cause."""

    def __init__(self, forbidden: Sequence[str]) -> None:
        self.seen: list[str] = []
        self._forbidden = frozenset(forbidden)
        self._active = False
        sys.addaudithook(self._hook)

    def start(self) -> None:
        self.seen.clear()
        self._active = True

    def stop(self) -> None:
        self._active = False

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._active:
            return
        if event in _NETWORK_EVENTS and not _is_local(arguments):
            self.seen.append(f"{event} {arguments[1:]!r}")
            raise OSError("the network is not to be used here")
        if event in self._forbidden:
            self.seen.append(f"{event} {arguments!r}")


def _is_local(arguments: tuple[Any, ...]) -> bool:
    """Whether it is a socket of this machine, as between processes, or of a kernel's service."""
    address = arguments[1] if len(arguments) > 1 else None
    return isinstance(address, str | bytes) and hasattr(arguments[0], "family")


def leave_network() -> bool:
    """Move this process, which must have one thread, and its children to a namespace without a network."""
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.unshare(_NEW_NETWORK) == 0 or libc.unshare(_NEW_USER | _NEW_NETWORK) == 0


def run_command(command: Sequence[str]) -> tuple[int, str]:
    """Run it in this process: its exit code, and the traceback of what it let through, or nothing."""
    from eomt_ext_core.errors import EomtExtError

    try:
        code = _function(command)()
    except SystemExit as end:
        code = end.code
    except EomtExtError as error:
        print(f"{type(error).__name__}: {error}")
        code = 1
    except BaseException:
        return 1, traceback.format_exc()
    if isinstance(code, str):  # as the interpreter does
        print(code, file=sys.stderr)
        return 1, ""
    return int(code or 0), ""


def _function(command: Sequence[str]) -> Callable[[], Any]:
    if command[0] == "eomt-ext":
        from eomt_ext_core.cli import main

        sys.argv = list(command)
        return main
    module, _, name = command[0].partition(":")
    function = getattr(importlib.import_module(module), name)
    return lambda: function(*command[1:])


def _memory_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {field}")


def _cpu_s() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(command: Sequence[str], watch: Watch) -> dict[str, Any]:
    """Run a command; returns how it ended and what it took."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    memory, cpu_s, start = _memory_bytes("VmRSS"), _cpu_s(), time.monotonic()
    watch.start()
    try:
        code, trace = run_command(command)
    finally:
        watch.stop()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return {
        "code": code,
        "traceback": trace,
        "seconds": time.monotonic() - start,
        "cpu_s": _cpu_s() - cpu_s,
        "growth_bytes": _memory_bytes("VmHWM") - memory,
        "events": watch.seen[:10],
    }


def main() -> None:
    """Arguments: the pipe's file descriptor, and the kind as JSON (``preload``, ``forbidden``)."""
    reply = os.fdopen(int(sys.argv[1]), "w", buffering=1)
    settings = json.loads(sys.argv[2])
    requests = os.fdopen(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # a case reads no requests
    Path("/proc/self/oom_score_adj").write_text("1000")
    isolated = leave_network()
    faulthandler.enable()
    for name in settings["preload"]:
        importlib.import_module(name)
    watch = Watch(settings["forbidden"])
    print(json.dumps({"isolated": isolated}), file=reply)
    for line in requests:
        print(json.dumps(measure(json.loads(line), watch)), file=reply)


if __name__ == "__main__":
    main()
