"""What becomes of the images of a camera, counted and timed; needs no ROS."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from eomt_ext_core.health import Health
from eomt_ext_ros.diagnostics.sliding_window import Percentiles, SlidingWindow

RATE_SPAN_S = 5.0
TIMING_SPAN_S = 30.0
FULL_MASK = 0.5  # a mask that covers a larger fraction of the image tells nothing apart


@dataclass(frozen=True)
class CameraSnapshot:
    """The statistics of a camera at one moment.

    Attributes:
        name: of the camera; empty for a single camera.
        counts: since the node began: ``received``, ``published``, ``dropped`` (a newer image replaced it), ``skipped``
            (there was nothing to publish), ``rejected/<reason>``, ``failed/<kind>`` (``input``, ``memory``,
            ``inference`` or ``output``), and of the published ones ``withheld/<output>``.
        input_rate_hz, output_rate_hz: over the last 5 s.
        input_age_s: time since the newest image came in; None before the first one.
        waiting_s: the same; before the first image, time since the camera was started.
        processing_s: from the turn of an image to its published outputs, over the last 30 s; its visualisations count
            only if nothing else is subscribed to.
        latency_s: from the stamp of an image to its published outputs, over the last 30 s; None if it is unknown.
        unprocessed_s: since an image came in after the last turn had ended; 0 if none did.
        skip: why the newest image that had its turn was skipped, or empty.
        late_in_a_row: images published later than the limit, since the last one in time.
        rejection: why the newest image that had its turn was rejected, or empty.
        failure: why the last image failed, until an image whose turn came later is published; or empty.
        no_ground: why the obstacles of the newest image, though asked for, were not located on the ground; or empty.
        tracks: how many obstacles are followed, by state, in the last image that they were looked for in.
        health: what the images say of the camera; None if none was judged.
        mask_fraction: of the newest image whose mask was cut; None before the first.
        full_mask_s: for how long each mask has covered most of its image, to the newest; 0 if that does not.
        drift: since when the images are no longer like those that the thresholds were fitted on, or empty.
        lost_colours: why the newest image came without its colours, or empty.
    """

    name: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    input_rate_hz: float = 0.0
    output_rate_hz: float = 0.0
    input_age_s: float | None = None
    waiting_s: float = 0.0
    processing_s: Percentiles | None = None
    latency_s: Percentiles | None = None
    unprocessed_s: float = 0.0
    skip: str = ""
    late_in_a_row: int = 0
    rejection: str = ""
    failure: str = ""
    no_ground: str = ""
    tracks: Mapping[str, int] = field(default_factory=dict)
    health: Health | None = None
    mask_fraction: float | None = None
    full_mask_s: float = 0.0
    drift: str = ""
    lost_colours: str = ""


class CameraStatistics:
    """Count and time the images of one camera, in bounded memory; for use by several threads.

    Each image that is :meth:`received` ends as one of :meth:`dropped`, :meth:`skipped`, :meth:`rejected`,
    :meth:`failed` or :meth:`published`; of a published one, outputs may be :meth:`withheld`. ``taken_s`` is then the
    time since its turn began, if the next image may have had its turn meanwhile.

    Args:
        name: of the camera; empty for a single camera.
        clock: steady, in seconds: sim time may stand still.
    """

    def __init__(self, name: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._inputs = SlidingWindow(columns=0, span_s=RATE_SPAN_S)
        self._outputs = SlidingWindow(columns=0, span_s=RATE_SPAN_S)
        self._timings = SlidingWindow(columns=2, span_s=TIMING_SPAN_S)
        self._started_s = clock()
        self._newest_input_s: float | None = None
        self._unprocessed_since_s: float | None = None
        self._last_turn_s = self._failed_turn_s = -math.inf
        self._late_in_a_row = 0
        self._failure = self._rejection = self._skip = self._no_ground = self._drift = self._lost_colours = ""
        self._tracks: Mapping[str, int] = {}
        self._health: Health | None = None
        self._mask_fraction: float | None = None
        self._full_mask_since_s: float | None = None
        self._newest_mask_s = 0.0

    def restart(self) -> None:
        """Start over, as when the node is activated; only the counts go on."""
        with self._lock:
            for window in (self._inputs, self._outputs, self._timings):
                window.clear()
            self._started_s = self._clock()
            self._newest_input_s = None
            self._late_in_a_row = 0
            self._failure = self._no_ground = self._lost_colours = ""
            self._tracks = {}
            self._health = self._mask_fraction = self._full_mask_since_s = None
            self._end_turn()

    def received(self) -> None:
        """Count an image that came in."""
        with self._lock:
            self._counts["received"] += 1
            self._newest_input_s = self._clock()
            self._inputs.add(self._newest_input_s)
            if self._unprocessed_since_s is None:
                self._unprocessed_since_s = self._newest_input_s

    def dropped(self) -> None:
        """Count an image that had no turn, as a newer one replaced it or the node was stopped."""
        with self._lock:
            self._counts["dropped"] += 1

    def skipped(self, why: str, taken_s: float = 0.0) -> None:
        """Count an image of which there was nothing to publish; ``why`` is for people."""
        with self._lock:
            self._counts["skipped"] += 1
            self._end_turn(taken_s, skip=why)

    def rejected(self, reason: str, text: str, taken_s: float = 0.0) -> None:
        """Count an image that cannot be used; ``reason`` is that of an ``ImageError``, ``text`` is for people."""
        with self._lock:
            self._counts[f"rejected/{reason}"] += 1
            self._end_turn(taken_s, rejection=text)

    def failed(self, kind: str, text: str, taken_s: float = 0.0) -> None:
        """Count an image that could have been used and has no outputs; ``text`` is for people."""
        with self._lock:
            self._counts[f"failed/{kind}"] += 1
            self._failure, self._failed_turn_s = text, self._clock() - taken_s
            self._end_turn(taken_s)

    def followed(self, tracks: Mapping[str, int]) -> None:
        """Note how many obstacles of an image are followed, by state."""
        with self._lock:
            self._tracks = dict(tracks)

    def masked(self, fraction: float) -> None:
        """Note which fraction of an image its mask covers."""
        with self._lock:
            now_s = self._clock()
            if fraction <= FULL_MASK or not self._has_fresh_mask(now_s):  # masks are cut while somebody subscribes
                self._full_mask_since_s = None
            if fraction > FULL_MASK and self._full_mask_since_s is None:
                self._full_mask_since_s = now_s
            self._mask_fraction, self._newest_mask_s = fraction, now_s

    def _has_fresh_mask(self, now_s: float) -> bool:
        return now_s - self._newest_mask_s <= RATE_SPAN_S

    def withheld(self, outputs: Iterable[str]) -> None:
        """Count outputs that were subscribed to and are not published with their image."""
        with self._lock:
            self._counts.update(f"withheld/{output}" for output in outputs)

    def located(self, why_not: str = "") -> None:
        """Note why the obstacles of an image were not located on the ground; empty if they were, or nobody asked."""
        with self._lock:
            self._no_ground = why_not

    def published(self, processing_s: float, latency_s: float | None, late_after_s: float) -> None:
        """Count an image that was published; the next one may have had its turn since.

        Args:
            processing_s: since its turn began.
            latency_s: since its stamp, on the clock of the stamps; below 0 if that clock is ahead of ours. None if the
                camera does not stamp its images.
            late_after_s: above this latency, or processing time if the latency is unknown, the image is late.
        """
        taken_s = processing_s if latency_s is None else latency_s
        with self._lock:
            self._counts["published"] += 1
            if self._clock() - processing_s >= self._failed_turn_s:
                self._failure = ""
            self._end_turn(processing_s)
            self._late_in_a_row = self._late_in_a_row + 1 if taken_s > late_after_s else 0
            now_s = self._clock()
            self._outputs.add(now_s)
            self._timings.add(now_s, processing_s, math.nan if latency_s is None else latency_s)

    def judged(self, health: Health | None) -> bool:
        """Take in what the images say of the camera, None if they are not judged; returns whether that is new."""
        with self._lock:
            changed, self._health = health != self._health, health
        return changed

    @property
    def health(self) -> Health | None:
        """What the images say of the camera; None if none was judged."""
        with self._lock:
            return self._health

    def drifted(self, finding: str) -> None:
        """Note since when the images are no longer like those of the calibration; an empty text takes it back."""
        with self._lock:
            self._drift = finding

    def without_colours(self, why: str) -> None:
        """Note why an image came without its colours; empty if it has them."""
        with self._lock:
            self._lost_colours = why

    @property
    def counts(self) -> Counter[str]:
        """How many images ended in each way."""
        with self._lock:
            return self._counts.copy()

    def snapshot(self) -> CameraSnapshot:
        """The statistics of now."""
        with self._lock:
            now_s = self._clock()
            processing_s, latency_s = self._timings.percentiles(now_s)
            since_s = self._started_s if self._newest_input_s is None else self._newest_input_s
            return CameraSnapshot(
                name=self.name,
                counts=self._counts.copy(),
                input_rate_hz=self._inputs.rate_hz(now_s, self._started_s),
                output_rate_hz=self._outputs.rate_hz(now_s, self._started_s),
                input_age_s=None if self._newest_input_s is None else now_s - self._newest_input_s,
                waiting_s=now_s - since_s,
                processing_s=processing_s,
                latency_s=latency_s,
                unprocessed_s=0.0 if self._unprocessed_since_s is None else now_s - self._unprocessed_since_s,
                skip=self._skip,
                late_in_a_row=self._late_in_a_row,
                rejection=self._rejection,
                failure=self._failure,
                no_ground=self._no_ground,
                tracks=self._tracks,
                health=self._health,
                mask_fraction=self._mask_fraction,
                full_mask_s=(
                    self._newest_mask_s - self._full_mask_since_s
                    if self._full_mask_since_s is not None and self._has_fresh_mask(now_s)
                    else 0.0
                ),
                drift=self._drift,
                lost_colours=self._lost_colours,
            )

    def _end_turn(self, taken_s: float = 0.0, *, skip: str = "", rejection: str = "") -> None:
        """Note how the turn of an image ended, unless a later one has ended before."""
        began_s = self._clock() - taken_s
        if began_s >= self._last_turn_s:
            self._last_turn_s, self._unprocessed_since_s = began_s, None
            self._skip, self._rejection = skip, rejection
