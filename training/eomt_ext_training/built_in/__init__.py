"""The second half of the built-in model's training, on drawn scenes with randomised looks."""
