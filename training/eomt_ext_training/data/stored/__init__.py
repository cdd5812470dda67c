"""Data on disk: image files and rendered scenes."""
