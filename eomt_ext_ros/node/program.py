"""The node as a program: ``ros2 run eomt_ext_ros anomaly_node``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

import cv2
import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.signals import uninstall_signal_handlers

from eomt_ext_core import ConfigError
from eomt_ext_ros.diagnostics.throttled_log import explained
from eomt_ext_ros.node.anomaly_node import AnomalyNode
from eomt_ext_ros.process.allocator import keep_freed_images
from eomt_ext_ros.workers.waiting import context_ends

WAKE_PERIOD_S = 0.5


def prepare_process() -> None:
    """Set up a process of the node's own for images."""
    keep_freed_images()
    cv2.setNumThreads(1)  # more would wait for the cores that inference and publishing use


def main(args: list[str] | None = None, make_node: Callable[[], AnomalyNode] = AnomalyNode) -> int:
    """Run the node until it is told to end; returns the exit code."""
    prepare_process()
    rclpy.init(args=args)
    executor = SingleThreadedExecutor()
    node: AnomalyNode | None = None
    code = 0
    try:
        node = make_node()
        executor.add_node(node)
        if node.config.autostart:
            node.start()
        # Not spin(): on SIGTERM rclpy wakes it before it ends the context, and it may go back to sleep for good.
        while rclpy.ok():
            executor.spin_once(timeout_sec=WAKE_PERIOD_S)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (ConfigError, ParameterException) as error:
        get_logger("eomt_ext").fatal(f"cannot start: {error}")
        code = 1
    except Exception as error:
        if not context_ends(rclpy.ok):  # else ROS refused what a callback did, or a signal interrupted it
            get_logger("eomt_ext").fatal(f"ended by an error: {explained(error)}")
            code = 1
    finally:
        try:
            _ignore_signals()
            executor.shutdown()
            if node is not None:
                node.destroy_node()
            rclpy.try_shutdown()
        finally:
            if node is not None and not node.has_ended:
                # Python would go on to tear down what the threads still run in, which ends in a crash or not at all.
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
    return code


def _ignore_signals() -> None:
    """Let nothing interrupt the end of the process, which takes a second or two."""
    uninstall_signal_handlers()  # of ROS, which would else put Python's back in the end
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
