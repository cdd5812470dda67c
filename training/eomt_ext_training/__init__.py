"""Training of EoMT-EXT."""
