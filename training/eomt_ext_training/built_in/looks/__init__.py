"""Random changes of the look of a window, one idea in each file."""
