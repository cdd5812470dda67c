"""How long commands take to say what they do: ``python benchmarks/help.py``.

CPU time (user and system) of a process of its own for each: the median, and the range, of several in turn.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys

from eomt_ext_core.cli import add_commands, app

RUN = "from eomt_ext_core.entry import main; main()"


def cpu_s(arguments: list[str]) -> float:
    """CPU seconds of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", RUN, *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args()
    add_commands()
    names = [command.name or command.callback.__name__.replace("_", "-") for command in app.registered_commands]  # type: ignore[union-attr]
    asked = [["--version"], ["--help"], *([name, "--help"] for name in names)]
    times: list[list[float]] = [[] for _ in asked]
    for _ in range(args.repeats):
        for found, arguments in zip(times, asked, strict=True):
            found.append(cpu_s(arguments))
    for found, arguments in zip(times, asked, strict=True):
        print(f"{' '.join(arguments):22} {statistics.median(found):.3f} s ({min(found):.3f} to {max(found):.3f})")


if __name__ == "__main__":
    main()
