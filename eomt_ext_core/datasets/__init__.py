"""Labelled data sets on disk, in all layouts in which the road-anomaly benchmarks are published."""

from eomt_ext_core.datasets.layouts import open_datasets
from eomt_ext_core.datasets.samples import Dataset, Sample

__all__ = ["Dataset", "Sample", "open_datasets"]
