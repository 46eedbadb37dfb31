"""Relevance of the sentences of a passage."""
