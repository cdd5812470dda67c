"""The second half of the built-in model's training: on drawn scenes whose look is randomised beyond the drawn world."""
