"""Facts for people: what a file holds, what this machine has, and the record of a run."""
