"""Training of a network from nothing on semantic classes."""
