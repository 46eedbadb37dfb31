"""Runtimes: backend choice, batching, execution and export of a network. Sees token ids, not text."""
