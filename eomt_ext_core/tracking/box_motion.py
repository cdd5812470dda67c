"""Where a box will be: a Kalman filter in the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Standard deviations in sides of the box itself, so that the near and the far, the large and the small are alike.
_MEASURED = 0.15  # of a component's edges, which come and go with single pixels above the threshold
_FIRST_SPEED = 8.0  # per second: what comes towards the vehicle, or moves aside as it turns
_ACCELERATION = 24.0  # per second, per second: of what is passed

_SHRINKS = 0.05  # in an image, of what it is too large by


class BoxMotion:
    """Follow a box whose centre moves at a constant velocity, and whose size stays.

    As in SORT (Bewley et al., "Simple online and realtime tracking", ICIP 2016), but in seconds instead of frames and
    without a velocity of the size: components lose and regain parts. What is smaller than the box is therefore taken
    for a part of it: the box moves only to hold it, and shrinks slowly. All deviations are fractions of the box's own
    sides, so that its four numbers share one covariance.

    Attributes:
        box: (4,) float64, x and y of the centre, width and height, in pixels.
        velocity: (2,) float64, of the centre, in pixels per second.
    """

    def __init__(self, box: NDArray[np.float64]) -> None:
        self.box, self.velocity = box, np.zeros(2)
        self._covariance = _MEASURED**2, 0.0, _FIRST_SPEED**2  # of the place, of both, of the velocity

    def predict(self, step_s: float) -> None:
        """Move on by a time in seconds."""
        place, both, velocity = self._covariance
        noise = (_ACCELERATION * step_s) ** 2  # of an acceleration that is constant for the step
        self._covariance = (
            place + 2 * step_s * both + step_s**2 * velocity + noise * step_s**2 / 4,
            both + step_s * velocity + noise * step_s / 2,
            velocity + noise,
        )
        self.box = np.concatenate([self.box[:2] + step_s * self.velocity, self.box[2:]])

    def correct(self, box: NDArray[np.float64]) -> None:
        """Take up the box in which it is seen now."""
        place, both, velocity = self._covariance
        gain, velocity_gain = (part / (place + _MEASURED**2) for part in (place, both))
        error = self._around(box) - self.box
        self.box = self.box + gain * error
        self.velocity = self.velocity + velocity_gain * error[:2]
        self._covariance = (1 - gain) * place, (1 - gain) * both, velocity - velocity_gain * both

    def _around(self, part: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the box that holds what is seen, hardly smaller than it was and as near to where it was as can be."""
        size = np.maximum(part[2:], self.box[2:] + _SHRINKS * (part[2:] - self.box[2:]))
        room = (size - part[2:]) / 2
        return np.concatenate([np.clip(self.box[:2], part[:2] - room, part[:2] + room), size])
