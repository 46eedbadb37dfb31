"""Page at `/`: its files, and the facts of the server that it shows."""

from gliclass_rerank.serve.page.files import REPORT, add_file, add_page

__all__ = ["REPORT", "add_file", "add_page"]
