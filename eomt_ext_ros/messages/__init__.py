"""Conversion of ``sensor_msgs`` and ``vision_msgs`` to and from arrays."""
