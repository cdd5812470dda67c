"""An extension of griffe for the site: what docstrings write for Sphinx and doctest, as Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:func|class|meth|mod|attr|data):`~?([\w.]+)`")
_EXAMPLE = re.compile(r"^>>> (?:.+\n?)+", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Write a name for each role, and a block of code for each example."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of an object that has been read."""
        if obj.docstring is not None:
            text = _ROLE.sub(lambda found: f"`{found[1].rsplit('.')[-1]}`", obj.docstring.value)
            obj.docstring.value = _EXAMPLE.sub(lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", text)
