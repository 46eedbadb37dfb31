"""Facts of the server that the page shows."""

from __future__ import annotations

from pydantic import BaseModel

from gliclass_rerank._version import __version__
from gliclass_rerank.serve.engine import Engine
from gliclass_rerank.serve.models import ServedModel


class ModelFacts(BaseModel):
    """Model to choose."""

    name: str
    backend: str
    dtype: str
    device: str
    max_tokens: int
    learns: bool


class Facts(BaseModel):
    """Models, the default first, limits, and whether there is a page for reports."""

    version: str
    models: list[ModelFacts]
    max_documents: int
    max_body_bytes: int
    reports: bool


def facts(engine: Engine, *, reports: bool) -> Facts:
    """Collect the facts of a server; `reports` says whether it makes reports."""
    models = engine.models
    return Facts(
        version=__version__,
        models=[_model_facts(models.choose(name)) for name in models.names],
        max_documents=engine.settings.max_documents,
        max_body_bytes=engine.settings.max_body_bytes,
        reports=reports,
    )


def _model_facts(model: ServedModel) -> ModelFacts:
    reranker = model.reranker
    return ModelFacts(
        name=model.name,
        backend=reranker.backend,
        dtype=reranker.dtype,
        device=str(reranker.device),
        max_tokens=reranker.max_window_tokens,
        learns=reranker.example_store is not None,
    )
