"""Mining of a block: the lists of all kinds, shuffled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gliclass_rerank.errors import DataError
from gliclass_rerank.examples.text_identity import text_digest
from gliclass_rerank.learn.data.lists.asking import Corpus
from gliclass_rerank.learn.data.lists.block import Block, NamedList, numbered
from gliclass_rerank.learn.data.lists.forms import TextRef, text_of
from gliclass_rerank.learn.data.lists.kinds import KINDS
from gliclass_rerank.learn.data.lists.search import Searched
from gliclass_rerank.learn.data.lists.sources import source_digest
from gliclass_rerank.learn.data.lists.vectors import grow_vectors, read_vectors, width_of
from gliclass_rerank.learn.data.progress import Progress, silent
from gliclass_rerank.learn.data.retrieval import Bm25Retriever
from gliclass_rerank.text_models.interfaces import FloatArray, TextEncoder


def mine_block(
    corpus: Corpus, block: int, encoder: TextEncoder, scratch: Path, *, progress: Progress = silent
) -> tuple[Block, Mapping[TextRef, NDArray[np.float16]]]:
    """Mine all lists of a block.

    Args:
        corpus: Usable data.
        block: Number of the block.
        encoder: Encoder that finds candidates beside BM25.
        scratch: Folder for the vectors of queries and passages; a killed run resumes from them.
        progress: Progress of texts embedded and kinds done.

    Returns:
        Lists, shuffled so that any prefix is a fair sample, and float16 vectors by name of the text.

    Raises:
        DataError: A file is missing or malformed, or no query is left.
        BackendError: The encoder failed.
    """
    searched = [Searched(corpus, number, block) for number in range(len(KINDS))]
    if not any(one.queries and one.refs for one in searched):
        raise DataError(f"{corpus.sources.data}: there are no queries for the block {block}")
    texts = {query.query: query.text for one in searched for query in one.queries}
    for one in searched:
        texts |= {ref: text_of(ref, corpus.sources[ref.source]) for ref in one.found_by}
    rows = {ref: row for row, ref in enumerate(texts)}
    # Named after the texts, so that vectors of other kinds or data are not reused.
    digest = text_digest("\n".join(f"{tuple(map(str, ref))} {text}" for ref, text in texts.items())).hex()
    path = scratch / f"everything-{digest}.f16"
    grow_vectors(path, list(texts.values()), [ref.is_query for ref in rows], encoder, progress=progress)
    stored = read_vectors(path, width_of(encoder))
    named = _mixed_kinds(searched, np.asarray(stored, dtype=np.float32), rows, progress)
    used = {ref.source for one in named for ref in (one.query, *one.candidates)}
    return numbered(named, {name: source_digest(corpus.sources[name]) for name in used}), {
        ref: stored[row] for ref, row in rows.items()
    }


def _mixed_kinds(
    searched: list[Searched], vectors: FloatArray, rows: dict[TextRef, int], progress: Progress
) -> list[NamedList]:
    placed: list[tuple[float, int, NamedList]] = []
    indices: dict[tuple[TextRef, ...], Bm25Retriever] = {}
    with progress("kinds", len(searched)) as advance:
        for number, one in enumerate(searched):
            if one.queries and one.refs:
                if one.refs not in indices:
                    indices[one.refs] = Bm25Retriever(one.texts)
                asking = vectors[[rows[query.query] for query in one.queries]]
                passages = vectors[[rows[ref] for ref in one.found_by]]
                found = list(one.lists(indices[one.refs], asking, passages))
                placed += [((place + 0.5) / len(found), number, item) for place, item in enumerate(found)]
            advance(1)
    return [item for _, _, item in sorted(placed, key=lambda entry: entry[:2])]
