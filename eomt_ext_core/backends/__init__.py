"""Backends that score windows: the interface, and its implementation in torch."""
