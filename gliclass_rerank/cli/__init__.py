"""Command line."""

from gliclass_rerank.cli.app import main

__all__ = ["main"]
