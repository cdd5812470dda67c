"""What a command over many files does with those that it cannot use: go on, and name each at the end."""

from __future__ import annotations

from collections.abc import Sequence

EXIT_NOTHING = 1
"""Exit status: nothing could be done."""

EXIT_INCOMPLETE = 3
"""Exit status: something could not be read or processed; all other results are there."""

EXIT_INTERRUPTED = 130
"""Exit status: somebody interrupted it; the results so far are there."""


def print_problems(problems: Sequence[str]) -> None:
    """Print a line for each problem to standard error."""
    from rich.console import Console

    console = Console(stderr=True)
    for problem in problems:
        console.print(problem, style="yellow", markup=False, highlight=False, soft_wrap=True)
