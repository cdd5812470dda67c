"""A stand-in for launch and launch_ros, which come with a ROS 2 distribution only, and a run of it.

It holds what the package's launch files use, and visits a description in the order and with the scopes of the real one:
an included file shares the configurations of the file that includes it, where a declared default sets only what is not
set yet; a group gives back at its end what was changed in it. Processes are not started, but kept, with the command
lines that launch_ros would make of them. ``test_real_launch.py`` compares it with the real one.
"""

import importlib.util
from pathlib import Path
from types import ModuleType


def load(path):
    """The module of a launch file."""
    spec = importlib.util.spec_from_file_location(Path(path).name.replace(".", "_"), path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class LaunchContext:
    """Configurations of now, and what came of the run so far."""

    def __init__(self, configurations):
        self.launch_configurations = dict(configurations)
        self.is_shutdown = False
        self.arguments, self.processes, self.handlers, self.coroutines, self.timers = [], [], [], [], []
        self.emitted = []

    def emit_event_sync(self, event):
        self.emitted.append(event)
        for handler in list(self.handlers):
            if handler.matches(event):
                visit(handler.handle(event, self), self)


def run(path, **arguments):
    """Visit a launch file; returns the context."""
    context = LaunchContext(arguments)
    visit(load(path).generate_launch_description(), context)
    return context


def visit(entity, context):
    """Execute an entity, and then what it returns."""
    for part in entity if isinstance(entity, list) else [entity]:
        if part is not None:
            visit(part.execute(context), context)


class Entity:
    """What a description holds; keeps what it was made with."""

    def __init__(self, *args, **kwargs):
        self.args = args
        self.__dict__.update(kwargs)

    def execute(self, context):
        raise NotImplementedError(type(self).__name__)


class LaunchDescription(Entity):
    def execute(self, context):
        return list(self.args[0])


class LaunchConfiguration:
    def __init__(self, name, default=None):
        self.name, self.default = name, default

    def perform(self, context):
        if self.name not in context.launch_configurations and self.default is None:
            raise LookupError(f"launch configuration {self.name!r} does not exist")
        return context.launch_configurations.get(self.name, self.default)


class DeclareLaunchArgument(Entity):
    default_value = None

    def execute(self, context):
        (name,) = self.args
        context.arguments.append(name)
        if name not in context.launch_configurations:
            if self.default_value is None:
                raise RuntimeError(f"Required launch argument {name!r} was not provided.")
            context.launch_configurations[name] = self.default_value


class SetLaunchConfiguration(Entity):
    def execute(self, context):
        name, value = self.args
        context.launch_configurations[name] = value


class PythonLaunchDescriptionSource(Entity):
    pass


class IncludeLaunchDescription(Entity):
    launch_arguments = ()

    def execute(self, context):
        source = self.args[0]
        description = load(source.args[0]).generate_launch_description()
        return [*(SetLaunchConfiguration(name, value) for name, value in self.launch_arguments), description]


class GroupAction(Entity):
    def execute(self, context):
        outside = context.launch_configurations
        context.launch_configurations = dict(outside)
        visit(list(self.args[0]), context)
        context.launch_configurations = outside


class OpaqueFunction(Entity):
    def execute(self, context):
        return self.function(context)


class OpaqueCoroutine(Entity):
    def execute(self, context):
        context.coroutines.append(self)


class PushRosNamespace(Entity):
    def execute(self, context):
        pushed = context.launch_configurations.get("ros_namespace")
        context.launch_configurations["ros_namespace"] = _absolute(pushed, self.args[0])


class SetParameter(Entity):
    def execute(self, context):
        others = context.launch_configurations.get("global_params", [])
        context.launch_configurations["global_params"] = [*others, self.args]


class ExecuteProcess(Entity):
    return_code = None

    def execute(self, context):
        context.processes.append(self)


class Node(ExecuteProcess):
    def execute(self, context):
        pushed = context.launch_configurations.get("ros_namespace")
        namespace, name = getattr(self, "namespace", None), getattr(self, "name", "<node_name_unspecified>")
        line = [f"{self.package}/{self.executable}", *self.arguments, "--ros-args"]
        if hasattr(self, "name"):
            line += ["-r", f"__node:={name}"]
        if namespace is not None or pushed is not None:
            line += ["-r", f"__ns:={_absolute(pushed, namespace)}"]
        self.node_name = f"{_absolute(pushed, namespace).rstrip('/')}/{name}"
        for name, value in context.launch_configurations.get("global_params", []):
            line += ["-p", f"{name}:={value}"]
        for given in getattr(self, "parameters", []):
            line += [
                "--params-file",
                {self.node_name: {"ros__parameters": given}} if isinstance(given, dict) else given,
            ]
        for source, target in self.remappings:
            line += ["-r", f"{source}:={target}"]
        self.cmd = line
        super().execute(context)


def _absolute(pushed, namespace):
    if pushed and not (namespace or "").startswith("/"):
        namespace = f"{pushed}/{namespace or ''}"
    return "/" + (namespace or "").strip("/")


class RegisterEventHandler(Entity):
    def execute(self, context):
        context.handlers.append(self.args[0])


class Event(Entity):
    pass


class Shutdown(Event):
    pass


class ProcessExited(Event):
    pass


class SignalProcess(Event):
    pass


class EventHandler(Entity):
    def matches(self, event):
        return self.matcher(event)

    def handle(self, event, context):
        return list(self.entities)


class OnProcessExit(EventHandler):
    def matches(self, event):
        return isinstance(event, ProcessExited) and self.target_action(event.action)

    def handle(self, event, context):
        return self.on_exit(event, context)


class EmitEvent(Entity):
    def execute(self, context):
        context.emit_event_sync(self.event)


class TimerAction(Entity):
    def execute(self, context):
        context.timers.append(self)


def _parameter_value(value, value_type):
    return list(value) if isinstance(value, list) else value_type(value)


MODULES = {
    "launch": (Event, EventHandler, LaunchContext, LaunchDescription),
    "launch.actions": (
        DeclareLaunchArgument,
        EmitEvent,
        ExecuteProcess,
        GroupAction,
        IncludeLaunchDescription,
        OpaqueCoroutine,
        OpaqueFunction,
        RegisterEventHandler,
        SetLaunchConfiguration,
        TimerAction,
    ),
    "launch.event_handlers": (OnProcessExit,),
    "launch.events": (Shutdown,),
    "launch.events.process": (ProcessExited, SignalProcess),
    "launch.launch_description_sources": (PythonLaunchDescriptionSource,),
    "launch.substitutions": (LaunchConfiguration,),
    "launch_ros": (),
    "launch_ros.actions": (Node, PushRosNamespace, SetParameter),
    "launch_ros.parameter_descriptions": (),
    "launch_ros.ros_adapters": (),
}


def modules():
    """The modules under the names of the real ones."""
    made = {name: ModuleType(name) for name in MODULES}
    for name, classes in MODULES.items():
        made[name].__dict__.update({kind.__name__: kind for kind in classes})
    made["launch_ros.parameter_descriptions"].ParameterValue = _parameter_value
    made["launch.events"].matches_action = lambda action: lambda other: other is action
    made["launch_ros.ros_adapters"].get_ros_node = lambda context: context.ros_node
    return made
