"""Training of the anomaly head on a frozen network."""
