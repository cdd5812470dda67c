"""Processes that benchmarks of the node are made of: the node itself, cameras before it, a listener behind it."""
