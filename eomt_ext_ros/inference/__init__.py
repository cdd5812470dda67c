"""Calls of the engine that survive its failures."""
