"""Finished runs beside each other, read from their ``metrics.json``."""
