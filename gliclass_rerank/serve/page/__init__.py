"""Page at `/`: its files, and the facts of the server that it shows."""

from gliclass_rerank.serve.page.files import add_file, add_page

__all__ = ["add_file", "add_page"]
