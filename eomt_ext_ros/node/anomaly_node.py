"""The lifecycle node: camera images in, anomaly probabilities and obstacles out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from eomt_ext_core import ConfigError
from eomt_ext_core.config import DEMO
from eomt_ext_ros.diagnostics.camera_statistics import CameraStatistics
from eomt_ext_ros.diagnostics.publisher import Diagnostics
from eomt_ext_ros.diagnostics.snapshot import observe
from eomt_ext_ros.diagnostics.throttled_log import in_brief
from eomt_ext_ros.inference.engine import Engine, EngineFactory, load_engine
from eomt_ext_ros.inference.memory import free_model_memory
from eomt_ext_ros.inference.tracebacks import clear_traceback_locals
from eomt_ext_ros.node.bond import ManagerBond
from eomt_ext_ros.node.callbacks import GuardedNode
from eomt_ext_ros.node.services import Services
from eomt_ext_ros.node.transitions import log_exceptions
from eomt_ext_ros.parameters.node_config import NodeConfig
from eomt_ext_ros.parameters.parameter_fields import refuse_fixed_changes
from eomt_ext_ros.parameters.settings import declare_settings, read_settings
from eomt_ext_ros.pipeline.batch_context import describe_region
from eomt_ext_ros.pipeline.session import Session
from eomt_ext_ros.workers.waiting import finish_within, result_of

STOP_TIMEOUT_S = 30.0
EXIT_TIMEOUT_S = 1.0  # the process is to end within two seconds


class AnomalyNode(GuardedNode):
    """Find in the images of each camera what the model does not know.

    For each camera it subscribes to ``~/<camera>/input/image`` (or ``…/image/compressed``) and
    ``~/<camera>/input/camera_info``, and publishes the topics of :mod:`eomt_ext_ros.outputs.registry`, each with the
    header of the image that it was computed from. A single camera has no name in its topics. Only the newest image of a
    camera is processed, only what somebody subscribes to is computed, and the images of all cameras that wait go
    through the model together.

    The executor's thread only stores what comes in; the inference thread, which lives from configure to cleanup, alone
    touches the model. A third one draws visualisations, beside the next inference.

    Args:
        engine_factory: makes the engine from the configuration, in the inference thread.
        kwargs: of the ROS node.

    Attributes:
        session: all that there is from configure to cleanup; None before and after.
        statistics: what became of the images of each camera since the node began.
        error: why the node could not be configured, or empty.
    """

    def __init__(self, *, engine_factory: EngineFactory = load_engine, **kwargs: Any) -> None:
        super().__init__("eomt_ext", **kwargs)
        self.session: Session | None = None
        self.statistics: dict[str, CameraStatistics] = {}
        self.error = ""
        self._engine_factory = engine_factory
        self._bond = ManagerBond(self)
        # Last, as it may raise: the context then destroys the node, which must be able to.
        self.settings = declare_settings(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.diagnostics = Diagnostics(self, lambda: (observe(self), self.config.diagnostics))
        Services(self)

    @property
    def config(self) -> NodeConfig:
        """Settings of the node itself."""
        return self.settings.node

    @property
    def state(self) -> str:
        """Of the lifecycle: ``unconfigured``, ``inactive``, ``active``, ``finalized``, or a transition."""
        return str(self._state_machine.current_state[1])  # rclpy has no public way to ask

    @property
    def is_configured(self) -> bool:
        """Whether there is a session."""
        return self.session is not None

    @property
    def enabled(self) -> bool:
        """Whether an active node processes images."""
        return self.session is None or self.session.enabled

    @property
    def counts(self) -> Counter[str]:
        """How many images of all cameras ended in each way since the node began, as ``CameraStatistics`` names them."""
        return sum((statistics.counts for statistics in self.statistics.values()), Counter())

    def statistics_of(self, camera: str) -> CameraStatistics:
        """Give the statistics of a camera, also while the node is not configured."""
        return self.statistics.setdefault(camera, CameraStatistics(camera))

    # -- lifecycle ----------------------------------------------------------------------------------------------------

    @log_exceptions(TransitionCallbackReturn.FAILURE)
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and advertise the outputs."""
        self.error = ""
        self.forget_failing_callbacks()
        try:
            self.settings = declare_settings(self)
            statistics = {camera: self.statistics_of(camera) for camera in self.settings.cameras}
            self.session = Session(self, self.settings, statistics, self._load_engine)
            self.session.load(lambda job: result_of(job, self.context, self.diagnostics.publish_when_due))
        except BaseException as error:
            self.error = f"not configured: {in_brief(error)}"
            clear_traceback_locals(error)  # they hold what there is of the model
            self._release()
            raise
        return TransitionCallbackReturn.SUCCESS

    @log_exceptions(TransitionCallbackReturn.FAILURE)
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the cameras."""
        session = self._configured()
        self.get_logger().info(f"waiting for images on {', '.join(session.subscribe())}")
        result = super().on_activate(state)
        session.publish_label_info()
        self._bond.begin()
        session.publish_health()
        return result

    @log_exceptions(TransitionCallbackReturn.ERROR)
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and finish what is being processed; not while a checkpoint is loaded, which may take long."""
        session = self._configured()
        if self._refuse_while_reloading(session, "deactivate"):
            return TransitionCallbackReturn.FAILURE
        self._bond.end()
        session.unsubscribe()
        self._finish(session.drain)
        return super().on_deactivate(state)

    @log_exceptions(TransitionCallbackReturn.ERROR)
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the model and the outputs; not while a checkpoint is loaded."""
        if self._refuse_while_reloading(self._configured(), "clean up"):
            return TransitionCallbackReturn.FAILURE
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @log_exceptions(TransitionCallbackReturn.ERROR)
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End, from whatever state."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @log_exceptions(TransitionCallbackReturn.FAILURE)
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give everything up, so that the node can be configured anew."""
        try:
            self._release()
        except Exception as error:
            self.error = f"{in_brief(error)}: restart the process"
            raise
        return TransitionCallbackReturn.SUCCESS

    def start(self) -> None:
        """Configure and activate; if that fails, the node stays as it is and can be set right and started by hand."""
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()
        elif self.context.ok():
            self.get_logger().warning("not started: set the parameters right, then configure and activate this node")

    def destroy_node(self) -> None:
        """End the node's threads, or leave them behind if that takes too long, before the node goes."""
        if self.session is not None:
            self.session.unsubscribe()
            self.session.stop(EXIT_TIMEOUT_S)
        super().destroy_node()

    @property
    def has_ended(self) -> bool:
        """Whether none of the node's threads was left behind."""
        return self.session is None or self.session.has_ended

    def _configured(self) -> Session:
        assert self.session is not None, "a node that leaves the state unconfigured has a session"
        return self.session

    def _finish(self, finish: Callable[[float], bool]) -> None:
        """Wait for the session's threads, in the executor's."""
        finish_within(STOP_TIMEOUT_S, finish, self.context, self.diagnostics.publish_when_due)

    def _refuse_while_reloading(self, session: Session, attempt: str) -> bool:
        """Log that a transition is refused if a checkpoint is being loaded; returns whether it is."""
        if not session.is_reloading:
            return False
        self.get_logger().error(f"cannot {attempt} while ~/reload loads a checkpoint: try again when it has replied")
        return True

    def _release(self) -> None:
        self._bond.end()
        if self.session is not None:
            self.session.unsubscribe()
            self._finish(self.session.stop)
            self.session.withdraw()
            self.session = None
        free_model_memory()

    def _load_engine(self, config: NodeConfig) -> Engine:
        """Load the engine, in the inference thread."""
        started_s = time.monotonic()
        engine = self._engine_factory(config)
        described = engine.describe(config.engine) | {"region": describe_region(config.obstacles)}
        facts = ", ".join(f"{name} {value}" for name, value in described.items())
        self.get_logger().info(f"loaded {config.checkpoint} in {time.monotonic() - started_s:.1f} s: {facts}")
        if config.checkpoint == DEMO:
            self.get_logger().warning(
                "this is the demonstration model, trained on drawn scenes: not for use on a vehicle"
            )
        return engine

    # -- parameters and services --------------------------------------------------------------------------------------

    def _on_set_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        try:
            settings = read_settings(self, parameters)
            if self.session is not None:
                refuse_fixed_changes(self.config, settings.node)
                self.session.apply(settings)
        except (ConfigError, TypeError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        self.settings = settings
        return SetParametersResult(successful=True)

    def enable(self, enabled: bool) -> None:
        """Process images, or do not; a node that is configured later does."""
        if self.session is not None:
            self.session.enable(enabled)

    def begin_reload(self) -> Future[str] | None:
        """Load the checkpoint that the parameters name; gives its name when that is done. None if not configured."""
        return None if self.session is None else self.session.begin_reload()
