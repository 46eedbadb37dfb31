"""Evaluation: collections, ranking quality, and TREC run files, independent of any model."""
