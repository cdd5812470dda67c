"""The services of the running node: ``~/set_enabled`` and ``~/reload``."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import Future, wait
from typing import Any, Protocol

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from std_srvs.srv import SetBool, Trigger

from eomt_ext_ros.diagnostics.snapshot import INFERENCE_ENDED
from eomt_ext_ros.diagnostics.throttled_log import explained
from eomt_ext_ros.workers.waiting import STEP_S


class ServedNode(Protocol):
    """What the services ask of the node."""

    @property
    def state(self) -> str:
        """Of the lifecycle."""

    @property
    def enabled(self) -> bool:
        """Whether an active node processes images."""

    @property
    def is_configured(self) -> bool:
        """Whether there is a model."""

    def enable(self, enabled: bool) -> None:
        """Process images, or do not."""

    def begin_reload(self) -> Future[str] | None:
        """Load the checkpoint that the parameters name; None if the node is not configured."""

    def create_service(self, *args: Any, **kwargs: Any) -> Any:
        """As every node of ROS."""

    def get_logger(self) -> Any:
        """As every node of ROS."""


class Services:
    """Offer the services of a node, in every state of its lifecycle.

    ``~/set_enabled`` stops the processing of images, or lets it go on; configuring enables it. ``~/reload`` loads the
    checkpoint that the parameters name now, in the inference thread between two batches, and replies when that is done:
    until then no image is processed, the node can neither be deactivated nor cleaned up, and the executor goes on. If
    loading fails, the model in use stays.
    """

    def __init__(self, node: ServedNode) -> None:
        self._node = node
        node.create_service(SetBool, "~/set_enabled", self._set_enabled)
        # A group of its own: a callback that awaits keeps the others of its group waiting.
        node.create_service(Trigger, "~/reload", self._reload, callback_group=MutuallyExclusiveCallbackGroup())

    def _set_enabled(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._node.enable(request.data)
        response.success = True
        response.message = self._processing()
        return response

    def _processing(self) -> str:
        state, processed = self._node.state, f"images are {'' if self._node.enabled else 'not '}processed"
        if state == "active":
            return processed
        if state == "inactive":
            return f"{processed} once the node is active; it is inactive"
        return f"images are not processed: the node is {state}; configuring enables it, whatever is asked for now"

    async def _reload(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        job = self._node.begin_reload()
        if job is None:
            response.message = "the node is not configured: configure it, which loads the checkpoint"
            return response
        while not job.done():
            wait([job], STEP_S)
            await _Turn()
        if job.cancelled():
            response.message = INFERENCE_ENDED if self._node.is_configured else "the node was cleaned up meanwhile"
        elif (error := job.exception()) is not None:
            response.message = f"the model in use stays: {explained(error)}"
            self._node.get_logger().error(f"reload failed, {response.message}")
        else:
            response.success, response.message = True, f"loaded {job.result()}"
        return response


class _Turn:
    """Awaited, it gives the executor a turn at its other callbacks."""

    def __await__(self) -> Generator[None, None, None]:
        yield
