"""Updating of a model from a feedback log: gathering, training, gate, versions; see docs/guide/learn.md."""
