"""Exchange of feedback logs with other programs: plain JSONL, and User Behavior Insights."""

from gliclass_rerank.learn.feedback.fields import Imported
from gliclass_rerank.learn.feedback.plain import export_jsonl, import_jsonl
from gliclass_rerank.learn.feedback.ubi import export_ubi, import_ubi

__all__ = ["Imported", "export_jsonl", "export_ubi", "import_jsonl", "import_ubi"]
