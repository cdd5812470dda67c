"""How sure a metric is: counts of each frame, and the bootstrap over frames."""
