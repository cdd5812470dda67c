"""From a network's predictions to anomaly logits; knows no backbone."""
