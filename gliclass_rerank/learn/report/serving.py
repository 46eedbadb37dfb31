"""Report as a page of the server: /report takes texts and answers with the report."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel, Field

from gliclass_rerank.errors import DataError
from gliclass_rerank.learn.report.comparing import Rank
from gliclass_rerank.learn.report.making import Material, Sources, about, compare, read_sources
from gliclass_rerank.learn.report.writing import Verdict, VerdictKind, report_html, style_text, verdict
from gliclass_rerank.reranker import Reranker
from gliclass_rerank.serve.apis.api import Api, Body, Reply
from gliclass_rerank.serve.core import ExplainRequest, RequestError
from gliclass_rerank.serve.engine import Engine, translated
from gliclass_rerank.serve.models import ServedModel
from gliclass_rerank.serve.page import REPORT, add_file
from gliclass_rerank.serve.routes import Route

_PACKAGES: Final = ("bm25s", "Stemmer", "jinja2", "ir_measures")
_ASSETS: Final = Path(__file__).parent / "assets"
_ENDINGS: Final = (".jsonl", ".txt", ".md")
_UNSAFE: Final = re.compile(r"[^\w.-]")
_LONGEST_NAME: Final = 80


class NamedText(BaseModel):
    """Content of a file; its name decides how it is read."""

    name: str
    text: str


class ReportBody(Body):
    """Queries and documents to compare rankings of."""

    queries: NamedText
    corpus: list[NamedText] = Field(min_length=1, description="one file, or several .txt and .md files of paragraphs")
    run: NamedText | None = Field(None, description="results of your own retriever, a TREC run")
    judgements: NamedText | None = Field(None, description="TSV of query id, document id and grade")
    depth: int = Field(50, ge=2, description="documents to rerank for each query")
    limit: int = Field(100, ge=1, description="maximum number of queries, evenly spaced")
    model: str | None = None


class Finding(BaseModel):
    """Verdict on reranking after a retriever."""

    retriever: str
    kind: VerdictKind
    sentence: str


class Reported(BaseModel):
    """Verdicts, and the whole report as a page."""

    model: str
    findings: list[Finding]
    html: str


class Report(Api[ReportBody]):
    """Comparison of rankings with and without the model, query by query, as `gliclass-rerank report` makes it."""

    body = ReportBody
    content = Reported

    async def reply(self, body: ReportBody, engine: Engine, request_id: str) -> Reply:  # noqa: ARG002 # none is kept
        """Compare; the rankings wait in the queue like everybody's."""
        served = engine.models.choose(body.model)
        loop, is_over = asyncio.get_running_loop(), threading.Event()

        def ranking(model: ServedModel) -> Rank:
            def rank(query: str, passages: Sequence[str]) -> list[tuple[int, float]]:
                if is_over.is_set():
                    raise CancelledError
                request = ExplainRequest(query, tuple(passages), spans=False)
                found = asyncio.run_coroutine_threadsafe(engine.explain(request, model), loop).result().ranking
                return [(hit.index, hit.score) for hit in found]

            return rank

        def made() -> Reported:
            material = _read(body)  # first, as a model may have to be loaded
            model = _without_answers(served)
            comparisons = compare(material, ranking(model))
            return Reported(
                model=served.name,
                findings=[_finding(each.name, verdict(each)) for each in comparisons],
                html=report_html(about(model.reranker, material, comparisons), comparisons),
            )

        try:
            return Reply(await translated(asyncio.to_thread(made)))
        finally:
            is_over.set()  # if nobody waits any more, at the next query


def report_page(app: FastAPI) -> list[Route]:
    """Add the page to a server's application, and name its route; nothing without the extra `eval`."""
    if not all(map(importlib.util.find_spec, _PACKAGES)):
        return []
    add_file(app, REPORT, _ASSETS / "page.html", inline_style=style_text())
    add_file(app, "/page/report.js", _ASSETS / "page.js")
    return [Route(REPORT, (Report(),), operation="report")]


def _without_answers(served: ServedModel) -> ServedModel:
    """Model that sees no judgements of the very queries; one that sees none at all is taken as it is."""
    if served.reranker.example_store is None:
        return served
    settings: dict[str, Any] = dict(served.reranker.settings) | {"allow_same_text": False, "log": None}  # Any: settings
    return ServedModel(served.name, Reranker(**settings))


def _read(body: ReportBody) -> Material:
    """Content of a body's files; messages name them as the caller does."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return read_sources(_written(body, Path(folder)), depth=body.depth, limit=body.limit)
        except DataError as error:
            places = re.compile(re.escape(folder) + r"[/\\]\w+[/\\]")
            raise RequestError("invalid", places.sub("", str(error))) from error


def _written(body: ReportBody, folder: Path) -> Sources:
    """Files with the texts of a body, under their own names where these are plain and unlike each other."""
    documents = [_file(folder / "corpus", each, endings=_ENDINGS) for each in body.corpus]
    return Sources(
        queries=_file(folder / "queries", body.queries, endings=_ENDINGS),
        corpus=documents[0] if len(documents) == 1 else folder / "corpus",
        run=None if body.run is None else _file(folder / "run", body.run),
        judgements=None if body.judgements is None else _file(folder / "judgements", body.judgements),
    )


def _file(folder: Path, given: NamedText, endings: tuple[str, ...] = ("",)) -> Path:
    folder.mkdir(exist_ok=True)
    name = _UNSAFE.sub("_", given.name)[-_LONGEST_NAME:].lstrip(".") or "text"
    path = folder / (name if name.endswith(endings) else f"{name}.txt")
    if path.exists():
        path = folder / f"{len(list(folder.iterdir()))}-{path.name}"
    path.write_text(given.text, encoding="utf-8", errors="replace", newline="")
    return path


def _finding(retriever: str, found: Verdict) -> Finding:
    return Finding(retriever=retriever, kind=found.kind, sentence=found.sentence)
