"""Triton kernels for parts of a frame, and the choice between them and torch by timing both on the device in use.

Importing a module with kernels needs Triton; who uses one looks first with :func:`~.choice.obstacle_to_triton`.
"""
