"""What the package can claim, and what it cannot: the one source of docs/safety.md and of the evidence pack.

``python -m eomt_ext_core.evidence.limits > docs/safety.md`` writes the page. Texts are Markdown with links from docs/.
"""

from __future__ import annotations

import re
import sys
from typing import NamedTuple

NO_SAFETY_FUNCTION = (
    "The node helps a vehicle to notice what its model was never taught. It is no safety function, and it has not been "
    "developed or\ncertified as one."
)
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


class Claim(NamedTuple):
    """What the node says, and how far that goes."""

    says: str
    means: str
    does_not_mean: str


CLAIMS = (
    Claim(
        "a probability",
        "of a calibrated model: among pixels with a probability of 0.8 on roads like those of the calibration, about "
        "80 % are anomalous",
        "anything, for a model that was not [calibrated](../training/README.md) on your roads: the built-in model "
        "knows drawn scenes",
    ),
    Claim(
        "the mask, with a guarantee",
        "on frames that could have been drawn with the calibration's, at least the promised fraction of anomalous "
        "pixels of a frame is found in expectation; or, with a confidence of 99 %, of the obstacles of each size",
        "that this obstacle is found; that the promise holds on another road, camera or season",
    ),
    Claim(
        "an empty mask",
        "nothing above the threshold was seen",
        "that the road is free. Small, distant, dark or hidden things are missed; see the figures of the model that "
        "you run",
    ),
    Claim(
        "a range in metres, with a deviation",
        "where the contact line meets the ground plane, with the stated deviations of the pose",
        "the range of what does not touch the ground, or on a road that is not flat",
    ),
    Claim(
        "OK on `/diagnostics`",
        "images come, are processed in time, and look like those of a camera that works",
        "that the model is right about them",
    ),
)
REPORTED = (
    "A camera that is frozen, black, over-exposed, covered, upside down or has its colours swapped: `~/output/health` "
    "and\n  `/diagnostics`, and with `health.require` no outputs ([camera health](vehicle/health.md)).",
    "A model that computes something else than where it was made: the self-test at configure and reload refuses to "
    "start.",
    "A drive unlike the calibration's: with a file of [`learn-normal`](normality.md), a bounded test says since when "
    "the promise no\n  longer applies.",
    "Results that are not finite or the same for every pixel, images that are too old, memory that is short, threads "
    "that died.",
)
TO_PROVIDE = (
    "A model trained for your camera and roads, calibrated on frames that were not used for training, and the figures "
    "of both.",
    "A reaction to silence: if outputs stop, the node has reported why, and the vehicle must already be slowing down.",
    "A second source for obstacles that a camera cannot see: at night, in glare, behind other things.",
    "Your own evaluation, on your own recordings: `eomt-ext replay` processes every frame of them.",
)


def plain(text: str) -> str:
    """Give a text without its links, marks and line ends.

    >>> plain("what `eomt-ext`\\n  [learns](normality.md)")
    'what eomt-ext learns'
    """
    return " ".join(_LINK.sub(r"\1", text).replace("`", "").split())


def page() -> str:
    """Write docs/safety.md."""
    rows = "\n".join(f"| {' | '.join(claim)} |" for claim in CLAIMS)
    reported, to_provide = ("\n".join(f"- {text}" for text in texts) for texts in (REPORTED, TO_PROVIDE))
    return f"""# What it can claim, and what it cannot

{NO_SAFETY_FUNCTION} This page says what its outputs promise, on what condition, and what you have to provide.
For a review, [`eomt-ext evidence`](evidence.md) puts it beside what is known of your model.

| the node says | it means | it does not mean |
|---|---|---|
{rows}

## What it reports by itself

{reported}

## What you provide

{to_provide}
"""


if __name__ == "__main__":
    sys.stdout.write(page())
