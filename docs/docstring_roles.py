"""An extension of griffe for the site: Sphinx's roles in docstrings, such as ``:func:`~module.name```, as code."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:func|class|meth|mod|attr):`~?([\w.]+)`")


class DocstringRoles(griffe.Extension):
    """Write the last part of a name for its role."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of an object that has been read."""
        if obj.docstring is not None:
            obj.docstring.value = _ROLE.sub(lambda found: f"`{found[1].rsplit('.')[-1]}`", obj.docstring.value)
