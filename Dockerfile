# ROS 2 with the node in it:
#   docker build -t eomt_ext_ros .
#   docker run --rm --net=host --ipc=host --gpus all eomt_ext_ros image_topic:=/camera/image_raw
# The tests do not build it. --ipc=host lets Fast DDS share memory with the cameras' processes; --gpus all needs the NVIDIA container toolkit.
ARG ROS_DISTRO=jazzy
FROM ros:${ROS_DISTRO}-ros-base

RUN apt-get update && apt-get install -y --no-install-recommends python3-venv python3-pip && rm -rf /var/lib/apt/lists/*
WORKDIR /ws
COPY . src/eomt_ext_ros
RUN apt-get update && rosdep update && rosdep install --from-paths src --ignore-src -y && rm -rf /var/lib/apt/lists/*
# torch and timm have no rosdep keys; the environment sees rclpy, and its interpreter is written into the executables.
RUN python3 -m venv --system-site-packages .venv \
    && .venv/bin/pip install --no-cache-dir torch torchvision timm safetensors huggingface-hub 'typer>=0.27' 'rich>=13.8' \
        colcon-common-extensions \
    && . /opt/ros/${ROS_DISTRO}/setup.sh && . .venv/bin/activate \
    && python -m colcon build --packages-select eomt_ext_ros

ENTRYPOINT ["/bin/bash", "-c", ". install/setup.bash && exec ros2 launch eomt_ext_ros anomaly.launch.py \"$@\"", "--"]
