"""A worker process seen by its parent, which gives it cases, watches it, and ends it if a case goes too far."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_START_S = 300.0
_LOOK_S = 0.1
_MOST_OUTPUT_BYTES = 1 << 20
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Outcome:
    """How a case went.

    Attributes:
        code: its exit code.
        crash: how the process ended unexpectedly, or empty.
        traceback: of an exception that the command let through, or nothing.
        output: what it printed, the end of it.
        seconds: that it took.
        cpu_s: of all its threads, and of its children that have ended.
        growth_bytes: of resident memory at its peak, its children included.
        events: what it did that no case may.
        isolated: whether the kernel's network was away.
    """

    code: int = 0
    crash: str = ""
    traceback: str = ""
    output: str = ""
    seconds: float = 0.0
    cpu_s: float = 0.0
    growth_bytes: int = 0
    events: list[str] = field(default_factory=list)
    isolated: bool = False


class Child:
    """A process that takes cases one after the other.

    Args:
        preload: modules that it imports first.
        forbidden: audit events that no case may cause.
        folder: of its output.

    Raises:
        RuntimeError: if it does not start.
    """

    def __init__(self, preload: Sequence[str], forbidden: Sequence[str], folder: Path) -> None:
        self.num_cases = 0
        self._output = folder / "output.txt"
        self._replies, theirs = os.pipe()
        settings = json.dumps({"preload": list(preload), "forbidden": list(forbidden)})
        paths = (str(_ROOT), str(_ROOT / "training"), os.environ.get("PYTHONPATH", ""))  # this checkout, not another
        self._output.unlink(missing_ok=True)
        with self._output.open("ab") as output:  # appended, that it may be emptied between the cases
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.fuzz.worker", str(theirs), settings],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs],
                start_new_session=True,  # its children can be identified by it, even after its end
                cwd=_ROOT,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)},
            )
        os.close(theirs)
        self._pending = b""
        hello = self._wait(_START_S, None)
        if isinstance(hello, str):
            self.close()
            raise RuntimeError(f"a worker did not start: {hello}\n{self._printed()}")
        self._isolated = bool(hello["isolated"])

    def is_alive(self) -> bool:
        """Whether it can take another case."""
        return self._process.poll() is None

    def run(self, command: Sequence[str], most_seconds: float, most_bytes: int) -> Outcome:
        """Run a command in the process, and end the process if that takes too much."""
        self.num_cases += 1
        os.truncate(self._output, 0)
        start, before = time.monotonic(), _session_bytes(self._process.pid)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(list(command)).encode() + b"\n")
        self._process.stdin.flush()
        self._peak = before
        reply = self._wait(most_seconds, before + most_bytes)
        growth = self._peak - before
        if isinstance(reply, str):
            self.close()
            return Outcome(
                code=1,
                crash=reply,
                output=self._printed(),
                seconds=time.monotonic() - start,
                growth_bytes=growth,
                isolated=self._isolated,
            )
        reply["growth_bytes"] = max(growth, reply["growth_bytes"])
        return Outcome(**reply, output=self._printed(), isolated=self._isolated)

    def _wait(self, most_seconds: float, most_bytes: int | None) -> dict[str, Any] | str:
        """The next reply, or why there is none."""
        end = time.monotonic() + most_seconds
        while b"\n" not in self._pending:
            if select.select([self._replies], [], [], _LOOK_S)[0]:
                block = os.read(self._replies, 1 << 16)
                if not block:
                    return _describe(self._process.wait())
                self._pending += block
                continue
            if most_bytes is not None:
                self._peak = max(self._peak, _session_bytes(self._process.pid))
                if self._peak > most_bytes:
                    return "ended for its memory"
            if time.monotonic() > end:
                return f"ended after {most_seconds:.0f} s"
        line, _, self._pending = self._pending.partition(b"\n")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _printed(self) -> str:
        with self._output.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - _MOST_OUTPUT_BYTES))
            return file.read().decode(errors="replace")

    def close(self) -> None:
        """End it and what it has started."""
        for pid in _session(self._process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()
        if self._replies >= 0:
            os.close(self._replies)
            self._replies = -1


def _session(leader: int) -> list[int]:
    """The processes of a session."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended
            if int(fields[3]) == leader and fields[0] not in "ZX":
                found.append(int(folder.name))
    return found


def _session_bytes(leader: int) -> int:
    """Resident memory of a session that is in no file."""
    total = 0
    for pid in _session(leader):
        try:
            _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
        except OSError:
            continue
        total += (resident - shared) * _PAGE_BYTES
    return total


def _describe(code: int) -> str:
    return f"crash: {signal.Signals(-code).name}" if code < 0 else f"ended the process with code {code}"
