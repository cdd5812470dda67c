"""The evidence pack: what is known of a model, of its data and of this machine, for those who review it."""
