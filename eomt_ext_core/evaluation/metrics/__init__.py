"""Metrics of a set of frames: of pixels, of whole obstacles, and of probabilities."""
