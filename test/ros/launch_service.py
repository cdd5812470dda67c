"""Run a launch file with the real launch, and write the command line of each process that it starts.

``python launch_service.py OUT FILE [NAME:=VALUE …]``; exits as the launch does. In a command line, parameter files that
launch wrote itself are replaced by what is in them, and executables are named by their last two parts.
"""

import json
import sys
from pathlib import Path

import yaml
from launch.actions import IncludeLaunchDescription, RegisterEventHandler
from launch.event_handlers import OnProcessStart
from launch.launch_description_sources import AnyLaunchDescriptionSource

from launch import LaunchDescription, LaunchService


def shown(part):
    if Path(part).name.startswith("launch_params_"):
        return yaml.safe_load(Path(part).read_text())
    return part


def main(out, path, *arguments):
    started = []

    def on_start(event, context):
        executable = "/".join(Path(event.cmd[0]).parts[-2:])
        started.append([executable, *(shown(part) for part in event.cmd[1:])])
        part = Path(f"{out}.part")
        part.write_text(json.dumps(started))
        part.replace(out)  # whole at any time

    service = LaunchService()
    included = IncludeLaunchDescription(
        AnyLaunchDescriptionSource(path), launch_arguments=[text.split(":=", 1) for text in arguments]
    )
    service.include_launch_description(
        LaunchDescription([RegisterEventHandler(OnProcessStart(on_start=on_start)), included])
    )
    return service.run()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
