"""Benchmark of the engine on this machine, beside the pipelines that it replaces; run by ``eomt-ext bench``."""
