"""Settings of the node as a frozen dataclass; needs no ROS."""

from __future__ import annotations

from dataclasses import dataclass, field

from eomt_ext_core.config import EngineConfig, check_options, option


@dataclass(frozen=True)
class NodeConfig:
    """Settings of the node; those of the engine are parameters of the same node."""

    checkpoint: str = option("demo", "file, folder or hf://owner/name of the model; demo is the built-in demonstration")
    head: str = option("", "separate file with the anomaly head, or empty")
    autostart: bool = option(True, "configure and activate at start")
    overlay_opacity: float = option(0.75, "opacity of the heatmap where the probability is 1", minimum=0.0, maximum=1.0)
    engine: EngineConfig = field(default_factory=EngineConfig)

    def __post_init__(self) -> None:
        check_options(self)
