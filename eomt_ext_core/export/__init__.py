"""Export of a model as one file that runs without this package's model code."""
