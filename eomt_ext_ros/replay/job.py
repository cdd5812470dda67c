"""What is to be done with a bag, and what came of it: plain values that travel between processes and machines."""

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
    """How bags are replayed.

    ``node``: model, engine and overlay, as the live node has them; ``scores``: the first is published, all are
    evaluated; ``label_topics``: none, or one for each image topic; ``outputs``: what goes into the annotated bag;
    ``every``: n for every n-th frame of a topic; ``label_values``: what the values in the labels mean; ``threads``: of
    the CPU, per bag. It is the same for every bag, however many run at a time, because the last digits of a sum depend
    on how it is split.

    Raises ``ConfigError`` where these do not fit together.
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

    def __post_init__(self) -> None:
        if not self.image_topics or len(set(self.image_topics)) < len(self.image_topics):
            raise ConfigError(f"image topics must be given, each once, got {', '.join(self.image_topics) or 'none'}")
        if self.label_topics and self.labels is not None:
            raise ConfigError("labels come from a topic or from a folder, got both")
        if self.label_topics and len(self.label_topics) != len(self.image_topics):
            raise ConfigError(
                f"label topics must be as many as image topics, in the same order, got {len(self.label_topics)} and "
                f"{len(self.image_topics)}"
            )
        if self.labels is not None and not self.labels.is_dir():
            raise ConfigError(f"labels must be a folder, there is no {self.labels}")
        if self.start_s < 0 or (self.duration_s is not None and self.duration_s <= 0):
            raise ConfigError(f"start must be at least 0 s and duration above, got {self.start_s}, {self.duration_s}")
        if self.every < 1 or self.threads < 1:
            raise ConfigError(f"every and threads must be at least 1, got {self.every} and {self.threads}")
        unknown = set(self.outputs) - OUTPUTS.keys()
        if unknown:
            raise ConfigError(f"outputs must be among {', '.join(OUTPUTS)}, got {', '.join(sorted(unknown))}")


@dataclass(frozen=True)
class BagJob:
    """A bag to replay: ``name`` in the report, ``folder`` for what is made of it, the file that says stop, and where
    frames are kept until the end."""

    bag: Path
    name: str
    folder: Path
    stop_file: Path
    spool_folder: Path
    config: ReplayConfig


@dataclass
class BagReport:
    """What came of a bag.

    ``found``: frames that the bag holds in the range; ``done``: frames answered; ``problems``: what could not be read
    or processed, a line each; ``notes``: what else to report of its images; ``error``: what ended the replay early;
    ``interrupted``: somebody did; ``evaluator``: what was counted; ``census``: the values of the labels that were read.
    """

    name: str
    found: int = 0
    done: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str = ""
    interrupted: bool = False
    evaluator: Evaluator | None = None
    census: LabelCensus = field(default_factory=LabelCensus)

    @property
    def whole(self) -> bool:
        """Whether every frame of the bag was read and answered."""
        return not (self.problems or self.error or self.interrupted)
