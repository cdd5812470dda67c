"""What is said of a camera, and how long a sign must last before it is said."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

FAULT_TEXTS: Mapping[str, str] = {
    "black": "hardly any light: is the lens covered, or the exposure wrong?",
    "over_exposed": "most of the image is white",
    "frozen": "the same content under new stamps",
    "no_detail": "no detail: is the lens covered, fogged or out of focus?",
    "dead_channel": "a colour channel has the same value everywhere",
    "swapped_channels": "the colour channels have changed places",
    "upside_down": "the road is above the sky",
    "dirt": "a part of the image has stopped changing: is there dirt on the lens?",
}
"""Every kind of fault, in words for an operator."""

_WARNINGS = ("dirt",)
_EXPLAINS: Mapping[str, tuple[str, ...]] = {
    "black": ("frozen", "no_detail", "dead_channel", "dirt"),
    "over_exposed": ("frozen", "no_detail", "dead_channel", "dirt"),
    "no_detail": ("frozen", "dead_channel", "dirt"),
    "frozen": ("dirt",),
    "dead_channel": ("dirt",),
    "swapped_channels": ("dirt",),
    "upside_down": ("dirt",),
}


@dataclass(frozen=True)
class Fault:
    """A fault of a camera: one of ``FAULT_TEXTS``, and the stamp in seconds of the first image that showed it."""

    kind: str
    since_s: float

    @property
    def is_error(self) -> bool:
        """Whether what is found in the images cannot be relied upon; else only a part of them."""
        return self.kind not in _WARNINGS

    @property
    def text(self) -> str:
        """The fault in words."""
        return f"{self.kind} since the stamp {self.since_s:.3f}: {FAULT_TEXTS[self.kind]}"


@dataclass(frozen=True)
class Health:
    """What is wrong with a camera; nothing if there are no faults.

    Attributes:
        faults: in the order of ``FAULT_TEXTS``; one that another explains is left out.
    """

    faults: tuple[Fault, ...] = ()

    @property
    def summary(self) -> str:
        """The kinds of faults, or ``well``."""
        return ", ".join(fault.kind for fault in self.faults) or "well"

    @property
    def has_error(self) -> bool:
        """Whether the images cannot be relied upon."""
        return any(fault.is_error for fault in self.faults)


class Persistence:
    """Report a sign that lasts, and go on until it has been gone for a while."""

    def __init__(self) -> None:
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._reported = set[str]()

    def update(self, signs: Mapping[str, bool], now_s: float, enter_s: float, leave_s: float) -> None:
        """Take in which signs an image shows; one that is not named is as it was."""
        for kind, is_there in signs.items():
            if is_there:
                self._first.setdefault(kind, now_s)
                self._last[kind] = now_s
                if now_s - self._first[kind] >= enter_s:
                    self._reported.add(kind)
            elif kind in self._first and (kind not in self._reported or now_s - self._last[kind] >= leave_s):
                self._reported.discard(kind)
                del self._first[kind], self._last[kind]

    @property
    def health(self) -> Health:
        """What is reported now."""
        return Health(tuple(Fault(kind, self._first[kind]) for kind in _unexplained(self._reported)))


def _unexplained(kinds: Collection[str]) -> list[str]:
    explained = {other for kind in kinds for other in _EXPLAINS.get(kind, ())}
    return [kind for kind in FAULT_TEXTS if kind in kinds and kind not in explained]
