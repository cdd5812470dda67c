"""The bond by which Nav2's lifecycle manager knows that an active node is alive, if bondpy is installed."""

from __future__ import annotations

import importlib
from typing import Any


class ManagerBond:
    """Offer the bond that ``nav2_lifecycle_manager`` waits for, 4 s by default, once it has activated a node.

    Without such a manager it stays unanswered, which bondpy notes after 10 s and takes no offence at.

    Args:
        node: that is managed. The bond has its name, on the topic ``bond`` of its namespace.
    """

    def __init__(self, node: Any) -> None:
        self._node = node
        self._bond: Any = None

    def begin(self) -> None:
        """Offer it; the node is active."""
        try:
            bondpy = importlib.import_module("bondpy.bondpy")
        except ImportError:
            return
        bond = bondpy.Bond("bond", self._node.get_name(), self._node)
        bond.start()
        self._bond = bond

    def end(self) -> None:
        """Break it, if there is one; the node is not active any more."""
        bond, self._bond = self._bond, None
        if bond is not None and self._node.context.ok():
            bond.shutdown()
