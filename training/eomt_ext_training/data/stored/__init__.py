"""Data on disk: image files, rendered scenes, and fingerprints of both."""
