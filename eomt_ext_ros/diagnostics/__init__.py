"""What an operator reads of the node: statuses, statistics of the cameras, and the log."""
