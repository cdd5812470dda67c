"""What the node publishes: the registry of outputs, and how an image's outputs are rendered."""
