"""Who starts, stops and sets the node from outside, and reads its diagnostics."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter

from vehicle.processes import Listener

TIMEOUT_S = 120.0


class Operator:
    """Calls the services of the node ``prefix``, and keeps its newest diagnostics."""

    def __init__(self, listener: Listener, prefix: str = "/eomt_ext/") -> None:
        self._listener, self._prefix = listener, prefix
        self._clients: dict[str, Any] = {}
        self.statuses: dict[str, dict[str, str]] = {}  # by what follows the node's name
        listener.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def wait_until(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {TIMEOUT_S:.0f} s for {what}")
            self._listener.turn()

    def change_state(self, *labels: str) -> None:
        """Go through lifecycle transitions, each of which must succeed."""
        for label in labels:
            request = ChangeState.Request(transition=Transition(label=label))
            if not self._call(ChangeState, "change_state", request).success:
                raise RuntimeError(f"the node refused to {label}")

    def set(self, **parameters: Any) -> None:
        """Change parameters, none of which may be refused."""
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg() for name, value in parameters.items()]
        )
        for result in self._call(SetParameters, "set_parameters", request).results:
            if not result.successful:
                raise RuntimeError(result.reason)

    def wait_until_active(self) -> None:
        self.wait_until(lambda: self.statuses.get("inference", {}).get("state") == "active", "an active node")

    def _call(self, kind: Any, service: str, request: Any) -> Any:
        if service not in self._clients:
            self._clients[service] = self._listener.node.create_client(kind, self._prefix + service)
        client = self._clients[service]
        self.wait_until(client.service_is_ready, service)
        future = client.call_async(request)
        self.wait_until(future.done, f"the response of {service}")
        return future.result()

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            node, _, part = status.name.partition(": ")
            if node == self._prefix.strip("/"):
                self.statuses[part] = {item.key: item.value for item in status.values}
