"""The threads that work beside the executor, and the queue of newest images."""
