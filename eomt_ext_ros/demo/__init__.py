"""A demonstration: the real node on a generated road, with a camera process and a recorder."""
