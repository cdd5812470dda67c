"""A model as one file that needs neither this package's model code nor, as ONNX, torch to run its network."""
