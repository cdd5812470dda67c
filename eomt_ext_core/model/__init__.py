"""EoMT and EoMT-EXT as plain torch modules, and their checkpoints."""
