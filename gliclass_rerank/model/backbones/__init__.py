"""Backbones under the `shared_query` plan: the query encoded once, candidates encoded independently of each other."""
