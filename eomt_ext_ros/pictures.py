"""Pictures for people: drawn and published while the next images are inferred."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from eomt_ext_ros.held_frames import forget_frames
from eomt_ext_ros.images import to_image_msg
from eomt_ext_ros.outputs import Rendering
from eomt_ext_ros.reports import Reports, explained


class Pictures:
    """A thread that draws the pictures of one image after the other, in the order in which they are shown.

    Args:
        most_waiting: images whose pictures may be unfinished, at least 1: more would fill the memory where drawing
            takes longer than inference.
        reports: where it is logged what cannot be drawn or published.
    """

    def __init__(self, most_waiting: int, reports: Reports) -> None:
        self._reports = reports
        self._room = threading.BoundedSemaphore(most_waiting)
        self._thread = ThreadPoolExecutor(1, "pictures")
        self._last: Future[dict[str, Exception]] | None = None

    def show(
        self, rendering: Rendering, names: Sequence[str], header: Any, publishers: Mapping[str, Any]
    ) -> Future[dict[str, Exception]]:
        """Draw and publish pictures of an image; waits first where the most images wait already.

        Args:
            rendering: of the image.
            names: of ``outputs.PICTURES``.
            header: of the image.
            publishers: by name.

        Returns:
            what stood in the way of which pictures, when all are done.
        """
        self._room.acquire()
        try:
            self._last = self._thread.submit(self._show, rendering, names, header, publishers)
        except BaseException:
            self._room.release()
            raise
        self._last.add_done_callback(lambda _: self._room.release())
        return self._last

    def drain(self, timeout_s: float) -> bool:
        """Wait until nothing is being drawn; false where that takes longer than the timeout."""
        return self._last is None or bool(wait([self._last], timeout_s).done)

    def close(self, timeout_s: float) -> None:
        """Wait as long for what is to be drawn, and draw nothing further."""
        self.drain(timeout_s)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _show(
        self, rendering: Rendering, names: Sequence[str], header: Any, publishers: Mapping[str, Any]
    ) -> dict[str, Exception]:
        failed: dict[str, Exception] = {}
        for name in names:
            try:
                publishers[name].publish(to_image_msg(*rendering.image(name), header))
            except Exception as error:
                self._reports.error(f"withheld {name}", f"{name} withheld: {explained(error)}")
                forget_frames(error)
                failed[name] = error
        return failed
