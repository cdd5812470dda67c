"""The parts of ``benchmarks/gpu.py``: what is measured on a GPU, one file each."""
