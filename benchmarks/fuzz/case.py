"""What every kind of file gives to the runner."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

LARGEST_BYTES = 1_000_000  # the limits of memory and time hold for files below this


@dataclass(frozen=True)
class Case:
    """A file, and what is run on it.

    Attributes:
        name: the seed file and what was done to it, for the table.
        path: the file or folder, of less than ``LARGEST_BYTES`` together.
        command: ``("eomt-ext", …)`` runs that command; ``("module:function", …)`` calls a function with the rest as
            its arguments, texts: it returns None or an exit code, and may raise an ``EomtExtError``.
        expect: ``"success"`` or ``"error"`` where only one exit will do: of an intact file, of one that has lost
            something. None where either will.
    """

    name: str
    path: Path
    command: tuple[str, ...]
    expect: str | None = None

    def size_bytes(self) -> int:
        """Of the file, or of all files in the folder."""
        files = [self.path] if self.path.is_file() else self.path.rglob("*")
        return sum(item.stat().st_size for item in files if item.is_file())


class Kind(Protocol):
    """A module of this package that makes cases.

    Attributes:
        PRELOAD: modules that a worker imports before it takes a case, so that no case pays for them.
        FORBIDDEN_EVENTS: events of ``sys.addaudithook`` that no case may cause, beyond those of the network.
    """

    PRELOAD: tuple[str, ...]
    FORBIDDEN_EVENTS: tuple[str, ...]

    def cases(self, seed: int, count: int, folder: Path) -> Iterator[Case]:
        """Write ``count`` files into ``folder``, the same for the same seed, each before its case is given."""
        ...
