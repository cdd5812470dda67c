"""Labelled images on disk: the layouts in which the road-anomaly benchmarks are met, each recognised by its folders."""

from eomt_ext_core.datasets.layouts import open_datasets
from eomt_ext_core.datasets.samples import Dataset, Sample

__all__ = ["Dataset", "Sample", "open_datasets"]
