"""The ways of running a frame that are compared: the engine, the literal pipeline, Transformers."""
