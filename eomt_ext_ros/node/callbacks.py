"""Callbacks that cannot end the process: what one raises is logged, and reported by the diagnostics."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.lifecycle import LifecycleNode

from eomt_ext_ros.diagnostics.throttled_log import ThrottledLog, explained, in_brief
from eomt_ext_ros.workers.waiting import context_ends

Callback = Callable[..., Any]


class GuardedNode(LifecycleNode):
    """A lifecycle node whose callbacks raise nothing: an executor raises it again, and that ends the process.

    It guards the callbacks of timers, subscriptions and services, those that rclpy itself makes among them, and those
    that check parameters. What one raises is logged with its traceback, seldom enough. A request gets the reason as its
    reply, if the response has room for it. For transitions see :func:`~eomt_ext_ros.node.transitions.log_exceptions`.

    Args:
        args, kwargs: of the ROS node.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._failing: dict[str, str] = {}
        self._failure_log = ThrottledLog(self)
        self._guarded: WeakSet[Any] = WeakSet()
        super().__init__(*args, **kwargs)
        for service in self.services:  # of which rclpy makes some past create_service
            self._guard_service(service)

    @property
    def failing_callbacks(self) -> str:
        """What each callback raised whose last call did not end in order, or empty."""
        return "; ".join(self._failing.values())

    def forget_failing_callbacks(self) -> None:
        """Begin anew, as when the node is configured."""
        self._failing.clear()

    def create_timer(self, *args: Any, **kwargs: Any) -> Any:
        """Create a timer whose callback raises nothing."""
        timer = super().create_timer(*args, **kwargs)
        return self._guard(timer, f"the timer {_name_of(timer.callback)}")

    def create_subscription(self, *args: Any, **kwargs: Any) -> Any:
        """Create a subscription whose callback raises nothing."""
        subscription = super().create_subscription(*args, **kwargs)
        return self._guard(subscription, subscription.topic_name)

    def create_service(self, *args: Any, **kwargs: Any) -> Any:
        """Create a service whose callback raises nothing and replies all the same."""
        return self._guard_service(super().create_service(*args, **kwargs))

    def add_on_set_parameters_callback(self, callback: Callback) -> None:
        """Let a callback check parameters; they are refused if it raises something."""
        what = f"the parameters' check {_name_of(callback)}"
        super().add_on_set_parameters_callback(self._guarded_callback(callback, what, _refuse_parameters))

    def _guard_service(self, service: Any) -> Any:
        return self._guard(service, self.resolve_service_name(service.srv_name), _refuse)

    def _guard(self, entity: Any, what: str, otherwise: Callback = lambda *_: None) -> Any:
        if entity not in self._guarded:
            self._guarded.add(entity)
            entity.callback = self._guarded_callback(entity.callback, what, otherwise)
        return entity

    def _guarded_callback(self, callback: Callback, what: str, otherwise: Callback) -> Callback:
        """A callback, with what to return otherwise from the reason and its arguments."""
        if inspect.iscoroutinefunction(callback):  # rclpy asks so too

            @functools.wraps(callback)
            async def guarded(*args: Any) -> Any:
                try:
                    result = await callback(*args)
                except Exception as error:
                    return otherwise(self._note(what, error), *args)
                self._failing.pop(what, None)
                return result
        else:

            @functools.wraps(callback)
            def guarded(*args: Any) -> Any:
                try:
                    result = callback(*args)
                except Exception as error:
                    return otherwise(self._note(what, error), *args)
                self._failing.pop(what, None)
                return result

        return guarded

    def _note(self, what: str, error: Exception) -> str:
        """Log what a callback raised and keep it for the diagnostics; returns it in brief."""
        was_failing = what in self._failing
        self._failing[what] = f"the callback of {what} failed: {in_brief(error)}"
        # A signal interrupts Python amid what rclpy does, which becomes a RuntimeError.
        if was_failing or not isinstance(error, RuntimeError) or not context_ends(self.context.ok):
            text = f"the callback of {what} failed: {explained(error)}"
            self._failure_log.error(f"failures of {what}", text)
        return self._failing[what]


def _name_of(callback: Callback) -> str:
    return getattr(callback, "__qualname__", repr(callback))


def _refuse(reason: str, request: Any, response: Any) -> Any:
    if isinstance(response, SetParameters.Response):  # whoever asks relies on a result for each parameter
        refused = SetParametersResult(successful=False, reason=reason)
        response.results.extend([refused] * (len(request.parameters) - len(response.results)))
    elif isinstance(response, SetParametersAtomically.Response):
        response.result = SetParametersResult(successful=False, reason=reason)
    elif hasattr(response, "message"):
        response.success, response.message = False, reason
    return response


def _refuse_parameters(reason: str, parameters: Any) -> SetParametersResult:
    return SetParametersResult(successful=False, reason=reason)
