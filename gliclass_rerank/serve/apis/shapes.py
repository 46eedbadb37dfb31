"""Bodies that Cohere's API has given to Jina's, vLLM's, Infinity's and Voyage's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BaseModel, Field

from gliclass_rerank.errors import shown
from gliclass_rerank.serve.apis.api import Body, RerankApi
from gliclass_rerank.serve.core import RequestError, RerankAnswer, RerankRequest
from gliclass_rerank.serve.settings import DocumentFormat
from gliclass_rerank.types import Span

Count = Annotated[int, Field(ge=0, description="0 for all")]
Document = Annotated[str | dict[str, Any], Field(description="a text, or an object with `text`")]  # Any: JSON

_DOCUMENTS_PER_UNIT: Final = 100


class RelevantSpans(Body):
    """Which sentences of the documents are returned."""

    mode: Literal["enabled", "disabled"]
    threshold: float = Field(0.1, ge=0, le=1, description="score from which a sentence is returned")
    max_spans: int | None = Field(None, ge=1, description="sentences of a document at most; all by default")


class RerankBody(Body):
    """Query and documents."""

    model: str | None = None
    query: str
    documents: list[Any] = Field(json_schema_extra={"items": {"anyOf": [{"type": "string"}, {"type": "object"}]}})
    top_n: Count | None = None
    return_documents: bool | None = None
    relevant_spans: RelevantSpans | None = None
    rank_fields: list[str] | None = Field(None, description="fields of the documents to rank by; `text` by default")


class Usage(BaseModel):
    """Tokens read by the model."""

    prompt_tokens: int
    total_tokens: int


class RelevantSpan(BaseModel):
    """Sentence of a document, in code points of its text."""

    start: int
    end: int
    score: float


class Result(BaseModel):
    """Ranked document; spans by descending score, if there are any."""

    index: int
    relevance_score: float
    relevant_spans: list[RelevantSpan] | None = None
    document: str | dict[str, Any] | None = None  # Any: JSON


class Units(BaseModel):
    """Billed units: searches of up to 100 documents."""

    search_units: int


class Version(BaseModel):
    """Version of Cohere's API."""

    version: str


class Tokens(BaseModel):
    """Tokens read by the model; rankings write none."""

    input_tokens: int
    output_tokens: int = 0


class Meta(BaseModel):
    """Cohere's metadata."""

    api_version: Version
    billed_units: Units
    tokens: Tokens


class Reranked(BaseModel):
    """Results, best first."""

    id: str
    object: Literal["list", "rerank"] = "list"
    model: str
    results: list[Result]
    usage: Usage
    meta: Meta


class CohereShaped(RerankApi[RerankBody]):
    """API with Cohere's shape.

    Args:
        document_format: Format of returned documents.

    Attributes:
        returns_documents: Documents are returned unless the request forbids it.
    """

    body = RerankBody
    content = Reranked
    returns_documents: ClassVar[bool] = False

    def __init__(self, document_format: DocumentFormat = "object") -> None:
        self._document_format = document_format

    def requests(self, body: RerankBody) -> list[RerankRequest]:
        """One ranking."""
        return [
            RerankRequest(
                body.query,
                passages(body.documents, body.rank_fields),
                model=body.model,
                top_k=body.top_n or None,
                spans=body.relevant_spans is not None and body.relevant_spans.mode == "enabled",
            )
        ]

    def answer(self, body: RerankBody, answers: Sequence[RerankAnswer], request_id: str) -> Reranked:
        """Results with what each of the APIs expects beside them."""
        (answer,) = answers
        returns = self.returns_documents if body.return_documents is None else body.return_documents
        units = -(-len(body.documents) // _DOCUMENTS_PER_UNIT)
        return Reranked(
            id=answer.id or request_id,
            model=answer.model,
            results=[
                Result(
                    index=hit.index,
                    relevance_score=self.score(body, hit.logit, hit.score),
                    relevant_spans=_relevant(hit.spans or (), body.relevant_spans),
                    document=self.document(body.documents[hit.index]) if returns else None,
                )
                for hit in answer.hits
            ],
            usage=usage(answers),
            meta=Meta(
                api_version=Version(version="2"),
                billed_units=Units(search_units=units),
                tokens=Tokens(input_tokens=answer.num_tokens),
            ),
        )

    def score(self, body: RerankBody, logit: float, score: float) -> float:  # noqa: ARG002 # for subclasses
        """Score of a document: the probability in [0, 1]."""
        return score

    def document(self, document: Any) -> str | dict[str, Any]:  # Any: JSON
        """Document as it is returned."""
        if self._document_format == "string":
            return passage(document, None, 0)
        return document if isinstance(document, dict) else {"text": document}


def _relevant(spans: Sequence[Span], wanted: RelevantSpans | None) -> list[RelevantSpan] | None:
    """Sentences above the threshold; None for none, as in Cohere's answers."""
    if wanted is None:
        return None
    found = [RelevantSpan(**asdict(span)) for span in spans if span.score >= wanted.threshold]
    return found[: wanted.max_spans] or None


def usage(answers: Sequence[RerankAnswer]) -> Usage:
    """Tokens of all rankings."""
    total = sum(answer.num_tokens for answer in answers)
    return Usage(prompt_tokens=total, total_tokens=total)


def passages(documents: Sequence[Any], fields: Sequence[str] | None = None) -> tuple[str, ...]:  # Any: JSON
    """Texts of documents; a `RequestError` for one without."""
    return tuple(passage(document, fields, index) for index, document in enumerate(documents))


def passage(document: Any, fields: Sequence[str] | None, index: int) -> str:  # Any: JSON
    """Text of a document: itself, its `text`, or the given fields, one a line."""
    if isinstance(document, str):
        return document
    if isinstance(document, Mapping):
        if fields:
            return "\n".join(str(document[field]) for field in fields if document.get(field) is not None)
        if isinstance(text := document.get("text"), str):
            return text
    raise RequestError(
        "invalid", f"`documents[{index}]` must be a string or an object with `text`, got {shown(document)}"
    )
