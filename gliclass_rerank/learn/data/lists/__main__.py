"""Entry point of the steps in `command`."""

from gliclass_rerank.learn.data.lists.command import main

main()
