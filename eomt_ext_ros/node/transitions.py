"""Lifecycle transitions whose exceptions reach the log: rclpy swallows them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn

from eomt_ext_ros.diagnostics.throttled_log import explained

Transition = Callable[[Any, LifecycleState], TransitionCallbackReturn]


def log_exceptions(otherwise: TransitionCallbackReturn) -> Callable[[Transition], Transition]:
    """Log what a transition of a node raises, and return ``otherwise``."""

    def decorate(transition: Transition) -> Transition:
        @functools.wraps(transition)
        def guarded(node: Any, state: LifecycleState) -> TransitionCallbackReturn:
            try:
                return transition(node, state)
            except Exception as error:
                if node.context.ok():  # or the process is ending, and ROS refuses everything
                    name = transition.__name__.removeprefix("on_")
                    node.get_logger().error(f"{name} failed: {explained(error)}")
            return otherwise

        return guarded

    return decorate
