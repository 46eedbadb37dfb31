"""`GLiClassRerankRetriever`: a retriever and a reranker as one retriever; needs langchain-core only."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, RetrieverLike
from pydantic import ConfigDict, Field

from langchain_gliclass.rerank import GLiClassRerank


class GLiClassRerankRetriever(BaseRetriever):
    """Retrieves with another retriever and reranks what it found.

    `invoke` and its kin take `top_n` and `score_threshold` for a single call.

    Attributes:
        base_retriever: What finds the documents: a retriever, or any runnable from a query to a list of documents.
        reranker: What orders them; the bundled model if it is left out.
        top_n: How many documents to return; None for the reranker's `top_n`.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    base_retriever: RetrieverLike
    reranker: GLiClassRerank = Field(default_factory=GLiClassRerank)
    top_n: int | None = Field(default=None, strict=True)

    def model_post_init(self, context: Any, /) -> None:  # Any: pydantic's
        """Refuse a wrong `top_n`; pydantic calls this."""
        super().model_post_init(context)
        self.reranker.model_copy(update={"top_n": self.top_n})

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        top_n: int | None = None,
        score_threshold: float | None = None,
    ) -> list[Document]:
        return self.reranker.rerank(
            self.base_retriever.invoke(query, config={"callbacks": run_manager.get_child()}),
            query,
            top_n=self.top_n if top_n is None else top_n,
            score_threshold=score_threshold,
            callbacks=run_manager.get_child(),
        )

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        top_n: int | None = None,
        score_threshold: float | None = None,
    ) -> list[Document]:
        return await self.reranker.arerank(
            await self.base_retriever.ainvoke(query, config={"callbacks": run_manager.get_child()}),
            query,
            top_n=self.top_n if top_n is None else top_n,
            score_threshold=score_threshold,
            callbacks=run_manager.get_child(),
        )
