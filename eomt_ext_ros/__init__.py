"""ROS 2 node of eomt_ext_ros."""
