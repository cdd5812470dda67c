"""The path of a batch from messages to published outputs."""
