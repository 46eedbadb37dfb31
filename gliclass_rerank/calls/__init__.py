"""Calls that can be cancelled, threads that work for them, and forks between them."""
