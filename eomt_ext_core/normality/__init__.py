"""What ordinary driving looks like to a frozen network: learnt from a drive without labels, kept in a small file."""

from eomt_ext_core.normality.normal_file import load_normality, save_normality
from eomt_ext_core.normality.normality import Normality
from eomt_ext_core.normality.patch_distance import PatchDistance

__all__ = ["Normality", "PatchDistance", "load_normality", "save_normality"]
