"""A bag to replay and the report of its replay: plain values that travel between processes and machines."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from eomt_ext_core.datasets.labels import PLAIN_LABELS, LabelCensus, LabelValues
from eomt_ext_core.datasets.tracks import ANOMALY_TRACK, SegmentTrack
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.evaluation.run import Evaluator
from eomt_ext_ros.outputs.registry import RECORDED
from eomt_ext_ros.parameters.node_config import NodeConfig
from eomt_ext_ros.replay.topics import OUTPUTS


@dataclass(frozen=True)
class ReplayConfig:
    """Settings of a replay.

    ``node``: model, engine and overlay, as in the live node; ``scores``: all are evaluated, the first is written to
    the annotated bag; ``label_topics``: none, or one for each image topic; ``outputs``: written to the annotated
    bag; ``every``: n to replay every n-th frame of a topic; ``label_values``: the meaning of the values in the
    labels; ``explain``: list why each obstacle is one, if the model gives semantic classes; ``threads``: CPU
    threads for each bag. ``threads`` does not depend on the number of workers, because the last digits of a sum
    depend on how it is split. ``info_topic``: of the calibrations of a single camera, to locate obstacles by with
    ``node.ground``; empty: they are not located. Raises ``ConfigError`` if a setting breaks a rule or contradicts
    another.
    """

    node: NodeConfig
    image_topics: tuple[str, ...]
    scores: tuple[str, ...] = ("head",)
    label_topics: tuple[str, ...] = ()
    labels: Path | None = None
    start_s: float = 0.0
    duration_s: float | None = None
    every: int = 1
    outputs: tuple[str, ...] = RECORDED
    track: SegmentTrack = ANOMALY_TRACK
    threads: int = 1
    label_values: LabelValues = PLAIN_LABELS
    explain: bool = True
    info_topic: str = ""

    def __post_init__(self) -> None:
        if not self.image_topics or len(set(self.image_topics)) < len(self.image_topics):
            raise ConfigError(f"image topics must be different names, got {', '.join(self.image_topics) or 'none'}")
        if self.label_topics and self.labels is not None:
            raise ConfigError("labels must come from topics or from a folder, got both: leave one out")
        if self.label_topics and len(self.label_topics) != len(self.image_topics):
            raise ConfigError(
                f"label topics must match the image topics one by one, in the same order, got {len(self.label_topics)} "
                f"label topics and {len(self.image_topics)} image topics"
            )
        if self.labels is not None and not self.labels.is_dir():
            raise ConfigError(f"labels must be an existing folder, got {self.labels}")
        if bool(self.info_topic) != bool(self.node.ground.height_m):
            raise ConfigError(
                "obstacles are located by the camera's calibration and height, got "
                f"{self.info_topic or 'no topic'} and {self.node.ground.height_m:g} m: give --camera-info-topic and "
                "--height-m, or neither"
            )
        if self.info_topic and len(self.image_topics) > 1:
            raise ConfigError(
                f"obstacles are located for one camera, got {len(self.image_topics)}: replay them one by one, each "
                "with its height and angles"
            )
        if self.start_s < 0 or (self.duration_s is not None and self.duration_s <= 0):
            raise ConfigError(
                f"start must be at least 0 s and duration more than 0 s, got {self.start_s} and {self.duration_s}"
            )
        if self.every < 1 or self.threads < 1:
            raise ConfigError(f"every and threads must be at least 1, got {self.every} and {self.threads}")
        unknown = set(self.outputs) - OUTPUTS.keys()
        if unknown:
            raise ConfigError(f"outputs must be some of {', '.join(OUTPUTS)}, got {', '.join(sorted(unknown))}")


@dataclass(frozen=True)
class BagJob:
    """A bag to replay.

    ``name``: in the report; ``folder``: of its results; ``stop_file``: ends the replay when it appears;
    ``spool_folder``: holds frames until the second pass of the evaluation.
    """

    bag: Path
    name: str
    folder: Path
    stop_file: Path
    spool_folder: Path
    config: ReplayConfig


@dataclass
class BagReport:
    """The outcome of a bag.

    ``num_frames``: frames of the bag in the range; ``num_processed``: those that were processed; ``problems``: a line
    for each frame, label or topic that could not be read or processed; ``notes``: other remarks on the images;
    ``error``: the failure that ended the replay early; ``interrupted``: whether a user ended it; ``evaluator``: the
    evaluation of the processed frames; ``census``: the label values found.
    """

    name: str
    num_frames: int = 0
    num_processed: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str = ""
    interrupted: bool = False
    evaluator: Evaluator | None = None
    census: LabelCensus = field(default_factory=LabelCensus)

    @property
    def is_complete(self) -> bool:
        """Whether every frame of the bag was read and processed."""
        return not (self.problems or self.error or self.interrupted)
