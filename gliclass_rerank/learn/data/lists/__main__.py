"""Runs the steps; see `command`."""

from gliclass_rerank.learn.data.lists.command import main

main()
