"""The page ``report.html``: a single file that opens without a network; only videos lie beside it."""

from eomt_ext_core.evaluation.page.render import render_page

__all__ = ["render_page"]
