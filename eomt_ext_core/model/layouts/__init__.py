"""Conversion of published state-dict layouts to the names of :class:`~eomt_ext_core.model.eomt.EoMT`."""

from eomt_ext_core.model.layouts.sort import Weights, sort_weights

__all__ = ["Weights", "sort_weights"]
