"""What reading a bag may cost: bags come from strangers, and a few kilobytes can ask for all memory there is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from eomt_ext_core.errors import DatasetError


@dataclass(frozen=True)
class BagLimits:
    """Bounds on memory and work. No recording that a recorder wrote comes near them.

    ``message_bytes``: of one message, decompressed: an image of 8192 × 8192 pixels of 4 bytes, and its header.
    ``chunk_bytes``: of an mcap chunk, decompressed: such an image, and 63 MiB beside it. Recorders write 1 to 16 MiB.
    ``made_bytes``: decompressed or read from one file in all, repetitions included; at least that, and
    ``made_ratio`` bytes for each byte of the file. Images compress to a half or a third.
    ``records``: in one file; at least that, and ``records_ratio`` for each byte of the file. The smallest record of an
    mcap file takes 31 bytes.
    ``query_s``: CPU time in SQLite for one file; at least that, and ``query_s_per_mib`` for each MiB. 10 ms are usual.
    ``metadata_bytes``: of ``metadata.yaml``. A recording with 300 topics has 300 kB.
    ``name_chars``: of a topic, a type or an encoding.
    ``problems``: lines about one file; further ones are counted.
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
    """Reading a file would cost more than its size allows."""


class Allowance:
    """What reading one file may still cost.

    Args:
        limits: the bounds.
        stored_bytes: the size of the file as it was found, before any decompression.
    """

    def __init__(self, limits: BagLimits, stored_bytes: int) -> None:
        self.limits = limits
        self._stored_bytes = stored_bytes
        self._bytes = max(limits.made_bytes, limits.made_ratio * stored_bytes)
        self._records = max(limits.records, int(limits.records_ratio * stored_bytes))
        self._query_s = max(limits.query_s, limits.query_s_per_mib * stored_bytes / 2**20)
        self._query_ends = 0.0

    def spend(self, made_bytes: int = 0, records: int = 0) -> None:
        """Take off what was just made or met. Raises ``ExhaustedError`` if there was not as much left."""
        self._bytes -= made_bytes
        self._records -= records
        if self._bytes < 0:
            raise ExhaustedError(self._refusal("would decompress to an unreasonable size"))
        if self._records < 0:
            raise ExhaustedError(self._refusal("holds an unreasonable number of records"))

    @contextmanager
    def query(self) -> Iterator[None]:
        """Count the CPU time of a block as time in SQLite; the time of others, and of waiting, is not in it."""
        started = time.thread_time()
        self._query_ends = started + self._query_s
        try:
            yield
        finally:
            self._query_s -= time.thread_time() - started

    def query_is_over(self) -> bool:
        """Whether the block of ``query`` has used all the time there is."""
        return time.thread_time() > self._query_ends

    def check_query(self) -> None:
        """Raise ``ExhaustedError`` if all the time for SQLite is used up."""
        if self.query_is_over():
            raise ExhaustedError(self._refusal("takes an unreasonable time to read"))

    def _refusal(self, what: str) -> str:
        return f"a file of {self._stored_bytes} bytes {what}: it is given up here"
