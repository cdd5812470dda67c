"""A run of the real node on a generated road: camera process, node process, and a recorder."""
