"""Tools of the server; their docstrings are what agents choose them by."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, TypeVar

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

from gliclass_rerank.classifier import ZeroShotClassifier
from gliclass_rerank.errors import GLiClassRerankError
from gliclass_rerank.mcp.answers import ChosenTool, ChosenTools, Labels, RankedPassage, RankedPassages, ScoredLabel
from gliclass_rerank.reranker import Reranker

_Result = TypeVar("_Result")

TopK = Annotated[int | None, Field(ge=1, description="return the best so many; null for all")]
MinScore = Annotated[float, Field(ge=0, le=1, description="leave out what scores below")]


class ToolDescription(BaseModel):
    """Tool as an agent knows it; other fields are ignored."""

    name: Annotated[str, Field(min_length=1)]
    description: str = ""

    @property
    def text(self) -> str:
        """Text that the model reads; names are words to it."""
        words = self.name.replace("_", " ")
        return f"{words}: {self.description}" if self.description.strip() else words


class Tools:
    """Tools over loaded models.

    Args:
        reranker: Ranks passages and tools.
        classifier: Scores labels.
    """

    def __init__(self, reranker: Reranker, classifier: ZeroShotClassifier) -> None:
        self._reranker = reranker
        self._classifier = classifier

    async def rerank(
        self,
        query: Annotated[str, Field(description="what is searched for")],
        passages: Annotated[list[str], Field(description="search results or other texts, in any order")],
        top_k: TopK = None,
        min_score: MinScore = 0.0,
        return_texts: Annotated[bool, Field(description="repeat the passages; else indices and scores only")] = True,
    ) -> RankedPassages:
        """Order passages by how well they answer a query, best first, with calibrated scores.

        Use it on search results before reading them: scores above 0.5 are likely relevant.
        """
        ranking = await _answered(self._reranker.arank(query, passages, top_k=top_k))
        found = [
            RankedPassage(index=hit.index, score=hit.score, text=hit.text if return_texts else None)
            for hit in ranking
            if hit.score >= min_score
        ]
        return RankedPassages(
            passages=found,
            answerable=ranking.answerable,
            shortened=[cut.index for cut in ranking.truncated],
            warnings=list(ranking.warnings),
        )

    async def classify(
        self,
        text: Annotated[str, Field(description="text to classify")],
        labels: Annotated[list[str], Field(min_length=1, description="labels in plain words, such as 'billing'")],
        multi_label: Annotated[bool, Field(description="any number of labels may apply; else exactly one")] = True,
        min_score: MinScore = 0.0,
    ) -> Labels:
        """Score which of any labels apply to a text, without training."""
        call = self._classifier.aclassify(text, labels, 0.0, multi_label)
        (found,) = await _answered(call)
        scored = sorted(zip(labels, found.scores, strict=True), key=lambda each: -each[1])
        kept = [ScoredLabel(label=label, score=score) for label, score in scored if score >= min_score]
        return Labels(labels=kept, is_shortened=found.truncated is not None)

    async def choose_tools(
        self,
        request: Annotated[str, Field(description="what shall be done, in plain words")],
        tools: Annotated[list[ToolDescription], Field(min_length=1, description="tools with name and description")],
        top_k: TopK = 5,
        min_score: MinScore = 0.0,
    ) -> ChosenTools:
        """Choose which of many tools fit a request, best first, by their descriptions."""
        ranking = await _answered(self._reranker.arank(request, [tool.text for tool in tools], top_k=top_k, log=False))
        chosen = [ChosenTool(name=tools[hit.index].name, score=hit.score) for hit in ranking if hit.score >= min_score]
        return ChosenTools(tools=chosen)


async def _answered(call: Awaitable[_Result]) -> _Result:
    """Await a call and raise the library's errors for the agent to read."""
    try:
        return await call
    except GLiClassRerankError as error:
        raise ToolError(str(error)) from error
