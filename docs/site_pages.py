"""Pages of the site made of other files: README, changelog, commands, the Python reference. A hook of mkdocs."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
COPIED = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "training/README.md": "training.md",
    "examples/README.md": "examples.md",
}
"""Files outside of docs/, by their path in the repository, and the pages that they become."""

MODULES = (
    "eomt_ext_core.engine",
    "eomt_ext_core.config",
    "eomt_ext_core.model.checkpoint",
    "eomt_ext_core.windows",
    "eomt_ext_core.obstacles",
    "eomt_ext_core.tracking",
    "eomt_ext_core.ground",
    "eomt_ext_core.visualization",
    "eomt_ext_core.images",
    "eomt_ext_core.scenes",
    "eomt_ext_core.errors",
)
_LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
_TARGET = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are no files in docs/."""
    from mkdocs.structure.files import File

    for page, text in pages().items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point the links of a page in docs/ at pages."""
    folder = posixpath.dirname(page.file.src_uri)
    return markdown if page.file.generated_by else linked(markdown, posixpath.join("docs", folder), folder)


def pages() -> dict[str, str]:
    """Write the pages, by their path in the site."""
    copied = {
        page: linked((ROOT / source).read_text(encoding="utf-8"), posixpath.dirname(source))
        for source, page in COPIED.items()
    }
    copied["examples.md"] += programs()
    return {**copied, "commands.md": commands(), "python.md": python()}


def linked(markdown: str, folder: str, page_folder: str = "") -> str:
    """Point links to files of the repository at their pages; without a page, only the text is left.

    Args:
        markdown: a file.
        folder: of the file, from the root of the repository.
        page_folder: of its page, from the root of the site.

    >>> linked("[a](docs/export.md#b), [c](training/README.md), [d](config/fastdds.xml)", "")
    '[a](export.md#b), [c](training.md), d'
    >>> linked("[![a](docs/images/a.jpg)](docs/report.md)", "")
    '[![a](images/a.jpg)](report.md)'
    """

    def page_of(target: str) -> str | None:
        if re.match(r"[a-z]+:", target):
            return target
        path = posixpath.normpath(posixpath.join(folder, target))
        page = COPIED.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        return None if page is None else posixpath.relpath(page, page_folder or ".")

    # First what leads nowhere, whole; then the targets alone, as the text of a link may be an image with its own.
    kept = _LINK.sub(lambda link: link[1] if page_of(link[2]) is None else link[0], markdown)
    return _TARGET.sub(lambda end: f"]({page_of(end[1])}{end[2] or ''})", kept)


def programs() -> str:
    """Show the examples whole."""
    files = sorted((ROOT / "examples").glob("*.py"))
    return "".join(f"\n## {path.name}\n\n```python\n{path.read_text(encoding='utf-8')}```\n" for path in files)


def commands() -> str:
    """List the commands with their options."""
    import typer

    from eomt_ext_core.cli import add_commands, app

    add_commands()
    group: Any = typer.main.get_command(app)
    return "\n".join(["# Commands\n", *(line for name in sorted(group.commands) for line in _command(name, group))])


def _command(name: str, group: Any) -> Iterator[str]:
    command = group.commands[name]
    context = group.context_class(command, info_name=f"eomt-ext {name}")
    yield f"## {name}\n"
    yield f"```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```\n"
    yield f"{command.help or ''}\n"
    yield "| | default | |\n|---|---|---|"
    for parameter in command.params:
        is_option = parameter.param_type_name == "option"
        names = (
            ", ".join(f"`{each}`" for each in parameter.opts) if is_option else f"`{(parameter.name or '').upper()}`"
        )
        default = "" if parameter.default in (None, False) or callable(parameter.default) else f"`{parameter.default}`"
        default = "required" if parameter.required else default
        yield f"| {names} | {default} | {_cell(parameter.help or '')} |"
    yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")


def python() -> str:
    """Name the public modules, whose docstrings mkdocstrings fills in."""
    return "\n".join(["# Python\n", *(f"::: {module}\n" for module in MODULES)])
