"""The names of the semantic classes as a ``vision_msgs/LabelInfo``, for nodes that read ``~/output/semantic``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from std_msgs.msg import Header


def to_label_info(class_names: Sequence[str], threshold: float, header: Header) -> Any:
    """Make a ``vision_msgs/LabelInfo`` (vision_msgs 4.1 and later), which is to be latched.

    Args:
        class_names: in the order of the ids in the semantic image, of which there are no more than 256.
        threshold: the probability above which a pixel belongs to the mask, in [0, 1].
        header: set as it is.
    """
    from vision_msgs.msg import LabelInfo, VisionClass

    classes = [VisionClass(class_id=index, class_name=name) for index, name in enumerate(class_names)]
    return LabelInfo(header=header, class_map=classes, threshold=float(threshold))
