"""What is random about the look of a window, one idea a file."""
