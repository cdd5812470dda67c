"""Reading of intact and damaged rosbag2 recordings, and writing, without ROS."""

from eomt_ext_ros.bags.reader import Bag, BagMessage
from eomt_ext_ros.bags.storage import Location, Topic
from eomt_ext_ros.bags.writer import BagWriter

__all__ = ["Bag", "BagMessage", "BagWriter", "Location", "Topic"]
