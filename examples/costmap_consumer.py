"""Mark the obstacles of the node in a grid around the vehicle: python examples/costmap_consumer.py

Nav2's obstacle layer reads ~/output/scan in the same way; see docs/vehicle/nav2.md.
"""

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import LaserScan

CELL_M, CELLS = 0.5, 80


class Grid(Node):
    def __init__(self) -> None:
        super().__init__("grid")
        self.cells = np.zeros((CELLS, CELLS), np.uint8)  # [x, y], the vehicle in the middle
        self.create_subscription(LaserScan, "/eomt_ext/output/scan", self.on_scan, qos_profile_sensor_data)

    def on_scan(self, scan: LaserScan) -> None:
        ranges = np.asarray(scan.ranges)  # +inf: the ground is seen and free; NaN: not known
        bearings = scan.angle_min + scan.angle_increment * np.arange(len(ranges))
        hit = np.isfinite(ranges)
        xy = ranges[hit, None] * np.stack([np.cos(bearings[hit]), np.sin(bearings[hit])], 1)
        x, y = np.floor(xy.T / CELL_M).astype(int) + CELLS // 2
        inside = (x >= 0) & (x < CELLS) & (y >= 0) & (y < CELLS)
        self.cells[:] = 0
        self.cells[x[inside], y[inside]] = 100
        self.get_logger().info(f"{np.count_nonzero(self.cells)} cells hold an obstacle")


if __name__ == "__main__":
    rclpy.init()
    rclpy.spin(Grid())
