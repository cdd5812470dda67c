"""Offline replay of recorded bags: every frame, deterministic, without DDS."""
