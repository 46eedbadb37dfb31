"""Checkpoints: location, loading and saving."""
