"""The options that every command has: ``--json``, ``--quiet``, ``--log-level``, ``--config``."""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from eomt_ext_core.about.record import start_record
from eomt_ext_core.commandline.config_file import read_options
from eomt_ext_core.commandline.output import output_mode
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.files import expanded

_LEVELS = ("debug", "info", "warning", "error")
_PACKAGES = ("eomt_ext_core", "eomt_ext_ros", "eomt_ext_training")


def with_shared_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command of Typer the options of all commands; those of its own with the same name come first."""
    # Not `get_type_hints`, which on Python 3.10 hides what is annotated from Typer if the default is None.
    own = inspect.signature(function, eval_str=True).parameters
    added = {name: hint for name, hint in _HINTS.items() if name not in own}

    @functools.wraps(function)
    def run(**values: Any) -> Any:
        given = {name: values.pop(name) for name in added}
        level = given.get("log_level") or ("error" if given.get("quiet") else None)
        if level is not None:
            _set_level(level)
        start_record(tuple(sys.argv))
        with output_mode(as_json=bool(given.get("as_json")), quiet=bool(given.get("quiet"))):
            return function(**{name: _expanded(value) for name, value in values.items()})

    defaults = {"quiet": False, "as_json": False}
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults.get(name), annotation=hint)
        for name, hint in added.items()
    ]
    run.__doc__ = joined_lines(function.__doc__ or "")
    run.__annotations__ = {**{name: parameter.annotation for name, parameter in own.items()}, **added}
    run.__signature__ = inspect.Signature([*own.values(), *more])  # type: ignore[attr-defined]
    return run


def joined_lines(text: str) -> str:
    """Join the lines of each paragraph of a docstring, which a terminal breaks where it likes.

    >>> joined_lines("One.\\n\\n    Two\\n    lines.\\n    ")
    'One.\\n\\nTwo lines.'
    """
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in inspect.cleandoc(text).split("\n\n"))


def _expanded(value: Any) -> Any:
    """Replace a leading ``~`` of paths, which no shell does in a file or after ``=``."""
    if isinstance(value, list | tuple):
        return type(value)(map(_expanded, value))
    return expanded(value) if isinstance(value, Path) else value


def _set_level(level: str) -> None:
    if level not in _LEVELS:
        raise ConfigError(f"--log-level must be one of {', '.join(_LEVELS)}, got {level!r}")
    logging.basicConfig(format="%(levelname)s: %(message)s")
    for package in _PACKAGES:
        logging.getLogger(package).setLevel(level.upper())


def _use_config(context: typer.Context, value: Path | None) -> Path | None:
    """Make the values of the file the defaults of the command, before its other options are read."""
    if value is None:
        return None
    known: dict[str, str] = {}
    lists = set()
    for item in context.command.params:
        if item.name is None or item.name in ("config_file", "help"):
            continue
        options = [option for option in item.opts if option.startswith("--")]
        names = [option.removeprefix("--") for option in options] or [item.name]  # an argument has no options
        known.update({name.replace("_", "-"): item.name for name in names if not name.startswith("no-")})
        if getattr(item, "multiple", False) or item.nargs != 1:
            lists.add(item.name)
    context.default_map = {**(context.default_map or {}), **read_options(value, known, frozenset(lists))}
    return value


_HINTS: dict[str, Any] = {
    "config_file": Annotated[
        Path | None,
        typer.Option(
            "--config",
            callback=_use_config,
            is_eager=True,
            metavar="FILE",
            help="YAML file with options of this command as keys; the command line overrides them",
        ),
    ],
    "log_level": Annotated[
        str | None, typer.Option("--log-level", help=f"least level of messages that are logged: {', '.join(_LEVELS)}")
    ],
    "quiet": Annotated[bool, typer.Option("--quiet", help="print only problems and errors")],
    "as_json": Annotated[bool, typer.Option("--json", help="print the result as JSON instead of text")],
}
