"""Runs the steps; see `command`."""

from gliclass_rerank.preparation.lists.command import main

main()
