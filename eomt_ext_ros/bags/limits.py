"""Limits on the cost of reading a bag: bags come from strangers, and a few kilobytes can demand all memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from eomt_ext_core.errors import DatasetError


@dataclass(frozen=True)
class BagLimits:
    """Limits on memory and work, far above those of any real recording.

    ``message_bytes``: of a decompressed message: an image of 8192 × 8192 pixels of 4 bytes, and its header.
    ``chunk_bytes``: of a decompressed mcap chunk: such an image and 63 MiB more. Recorders write 1 to 16 MiB.
    ``made_bytes``: total bytes decompressed or read from one file, counted again for each repetition, or ``made_ratio``
    bytes for each byte of the file if that is more. Images compress to a half or a third.
    ``records``: in one file, or ``records_ratio`` for each byte of the file if that is more. The smallest record of an
    mcap file has 31 bytes.
    ``query_s``: CPU time in SQLite for one file, or ``query_s_per_mib`` for each MiB if that is more. 10 ms are usual.
    ``metadata_bytes``: of ``metadata.yaml``. A recording with 300 topics has 300 kB.
    ``name_chars``: of a topic, a type or an encoding.
    ``problems``: reported for one file; further ones are counted.
    """

    message_bytes: int = 257 << 20
    chunk_bytes: int = 320 << 20
    made_bytes: int = 1 << 30
    made_ratio: int = 1000
    records: int = 250_000
    records_ratio: float = 0.25
    query_s: float = 5.0
    query_s_per_mib: float = 1.0
    metadata_bytes: int = 4 << 20
    name_chars: int = 1024
    problems: int = 1000


class ExhaustedError(DatasetError):
    """A file costs more to read than its size justifies."""


class Allowance:
    """The remaining budget for reading one file.

    Args:
        limits: of memory and work.
        stored_bytes: the size of the file before any decompression.
    """

    def __init__(self, limits: BagLimits, stored_bytes: int) -> None:
        self.limits = limits
        self._stored_bytes = stored_bytes
        self._bytes = max(limits.made_bytes, limits.made_ratio * stored_bytes)
        self._records = max(limits.records, int(limits.records_ratio * stored_bytes))
        self._query_s = max(limits.query_s, limits.query_s_per_mib * stored_bytes / 2**20)
        self._query_ends = 0.0

    def spend(self, made_bytes: int = 0, records: int = 0) -> None:
        """Take bytes and records off the budget. Raises ``ExhaustedError`` if that much is not left."""
        self._bytes -= made_bytes
        self._records -= records
        if self._bytes < 0:
            raise ExhaustedError(self._refusal("would decompress to an unreasonable size"))
        if self._records < 0:
            raise ExhaustedError(self._refusal("holds an unreasonable number of records"))

    @contextmanager
    def query(self) -> Iterator[None]:
        """Count the CPU time of this thread in the block as time in SQLite, without waiting and other threads."""
        started = time.thread_time()
        self._query_ends = started + self._query_s
        try:
            yield
        finally:
            self._query_s -= time.thread_time() - started

    def query_is_over(self) -> bool:
        """Whether the current ``query`` block has used up the time."""
        return time.thread_time() > self._query_ends

    def check_query(self) -> None:
        """Raise ``ExhaustedError`` if the time for SQLite is used up."""
        if self.query_is_over():
            raise ExhaustedError(self._refusal("takes an unreasonable time to read"))

    def _refusal(self, what: str) -> str:
        return f"reading stops here: a file of {self._stored_bytes} bytes {what}"
