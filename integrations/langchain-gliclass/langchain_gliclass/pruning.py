"""`GLiClassContextPruner`: `ContextPruner` as a LangChain document compressor.

Importing it and constructing it load no torch and no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, PrivateAttr, field_serializer, field_validator

from gliclass_rerank import ContextPruner, PrunedPassage
from gliclass_rerank.adapters import checked_items, owned_reranker, plain_reranker
from langchain_gliclass.documents import pruned

if TYPE_CHECKING:
    from gliclass_rerank import Reranker

    RerankerOrSettings = Reranker | Mapping[str, Any]  # Any: the settings' values
else:
    # pydantic reads annotations at run time, where `Reranker` would bring torch; the pruner checks it.
    RerankerOrSettings = Any


class GLiClassContextPruner(BaseDocumentCompressor):
    """Cuts the sentences of documents that do not bear on the query, before the LLM reads them.

    Goes behind a retriever or a reranker, and keeps their order. The model is loaded once, at the first use. An
    instance does not change after construction and may be shared by any number of threads and event loops; a pickle
    carries the settings, not the model. A setting that cannot be used is refused with a pydantic `ValidationError`.

    Attributes:
        reranker: A `gliclass_rerank.Reranker`, best the one that ranked, or the settings of one; None for the bundled
            model.
        min_sentence_score: Score from which a sentence is kept, in [0, 1].
        keep_empty: Whether documents that would lose all keep their best sentence; else they are dropped.
        gap: Text in place of what was cut between two sentences.
        on_error: `"keep_all"` returns whole documents, with the reason in the metadata key `prune_error`, when model or
            store cannot be loaded or fail, or when the query does not fit; `"raise"` raises. Wrong arguments are raised
            either way.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", frozen=True, strict=True)

    reranker: RerankerOrSettings | None = None
    min_sentence_score: float | None = None
    keep_empty: bool = False
    gap: str = " "
    on_error: Literal["raise", "keep_all"] = "raise"

    _pruner: ContextPruner = PrivateAttr()

    @field_validator("reranker", mode="before")
    @classmethod
    def _own_settings(cls, reranker: object) -> object:
        return owned_reranker(reranker)

    @field_serializer("reranker")
    def _plain_reranker(self, value: Any) -> Any:  # Any: checked by the pruner
        return plain_reranker(value)

    def model_post_init(self, _context: Any, /) -> None:  # Any: pydantic's
        """Refuse wrong settings; pydantic calls this."""
        given = {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}
        self._pruner = ContextPruner(**given)

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        return {**state, "__dict__": {**state["__dict__"], "reranker": plain_reranker(self.reranker)}}

    def compress_documents(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None = None,  # noqa: ARG002 # LangChain's
    ) -> list[Document]:
        """Prune what a retriever or a reranker found; LangChain calls this.

        Args:
            documents: Documents in any order, which is kept; may be empty. Never changed.
            query: What is searched for; not blank.
            callbacks: Not used.

        Returns:
            Copies with what is left as content; documents of which nothing is left, and blank ones, are dropped. The
            metadata have `pruned_chars`, the number of characters cut, and `kept_spans`, first and past-the-last
            characters of what was kept.

        Raises:
            InputError: An argument of the wrong type, or a blank query.
            WindowOverflowError: Query and examples leave no room for a sentence.
            CheckpointError: The checkpoint cannot be loaded.
            DataError: The example store cannot be opened.
            BackendError: The forward pass or the example store failed.
        """
        found = checked_items("documents", documents, Document)
        return _copies(found, self._pruner.run(query, [document.page_content for document in found]))

    async def acompress_documents(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None = None,  # noqa: ARG002 # LangChain's
    ) -> list[Document]:
        """`compress_documents` that never blocks the event loop.

        Args:
            documents: As for `compress_documents`.
            query: As for `compress_documents`.
            callbacks: Not used.

        Returns:
            As for `compress_documents`.
        """
        found = checked_items("documents", documents, Document)
        return _copies(found, await self._pruner.arun(query, [document.page_content for document in found]))


def _copies(found: Sequence[Document], passages: Sequence[PrunedPassage]) -> list[Document]:
    return [pruned(found[each.index], each.text, each.notes()) for each in passages]
