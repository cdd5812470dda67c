"""Exit statuses and problems of commands over many files, which skip files they cannot use and list them at the end."""

from __future__ import annotations

from collections.abc import Sequence

EXIT_NOTHING = 1
"""Exit status: no input could be processed."""

EXIT_INCOMPLETE = 3
"""Exit status: some input could not be read or processed; all other results are complete."""

EXIT_INTERRUPTED = 130
"""Exit status: interrupted by the user; the results so far are kept."""


def print_problems(problems: Sequence[str]) -> None:
    """Print each problem on a line of standard error."""
    from rich.console import Console

    console = Console(stderr=True)
    for problem in problems:
        console.print(problem, style="yellow", markup=False, highlight=False, soft_wrap=True)
