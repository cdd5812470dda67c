"""The node's settings: dataclasses, ROS parameters from them, and their reference page."""
