"""How a drive is learnt from. Imports no torch, so that a command can show its options at once."""

from __future__ import annotations

from dataclasses import dataclass

from eomt_ext_core.config import check_options, option


@dataclass(frozen=True)
class LearnConfig:
    """How a drive is learnt from."""

    held_out: float = option(
        0.25, "last fraction of each drive that the scores are fitted on", minimum=0.05, maximum=0.9
    )
    false_alarm_rate: float = option(
        0.0005, "fraction of the held-out pixels that may lie above the threshold 0.5", minimum=1e-5, maximum=0.5
    )
    every: int = option(1, "take every n-th image", minimum=1)
    prototypes: int = option(32, "most kinds of ordinary patches", minimum=1, maximum=256)

    def __post_init__(self) -> None:
        check_options(self)
