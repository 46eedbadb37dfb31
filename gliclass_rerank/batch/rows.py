"""Rows of a job: their questions, and the columns of their answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from gliclass_rerank.errors import BackendError, DataError, InputError, shown
from gliclass_rerank.learn.evaluation.files import Record
from gliclass_rerank.learn.evaluation.passages import passage_text, with_fields
from gliclass_rerank.prompt.query_batches import query_batches
from gliclass_rerank.reranker import Reranker
from gliclass_rerank.types import Ranking

Answer = dict[str, Any]  # Any: JSON
ANSWER: Final = (
    "hits",
    "ranking_id",
    "answerable",
    "num_tokens",
    "truncated_query",
    "truncated",
    "repaired",
    "warnings",
    "error",
)
"""Columns of an answer; `ranking_id` is there only with a feedback log."""


@dataclass(frozen=True)
class Question:
    """Query and passages of a row.

    Attributes:
        query: Query.
        texts: Texts of the passages.
        documents: All fields of the passages; empty for those that are strings.
    """

    query: str
    texts: tuple[str, ...]
    documents: tuple[Mapping[str, Any], ...]  # Any: JSON

    @property
    def num_chars(self) -> int:
        """Length of all texts together."""
        return len(self.query) + sum(map(len, self.texts))


def question_of(fields: Mapping[str, Any]) -> Question:  # Any: JSON
    """Read the question of a row.

    Args:
        fields: `query`, and `passages`: strings, or objects with `text` and perhaps `title`.

    Returns:
        The question.

    Raises:
        InputError: The query is no string or blank, or the passages are no list.
        DataError: A passage has no text.
    """
    query, passages = fields.get("query"), fields.get("passages")
    if not isinstance(query, str):
        raise InputError(f"`query` must be a string, got {shown(query)}")
    if not query.strip():
        raise InputError(f"`query` must not be blank, got {shown(query)}")
    if not isinstance(passages, list):
        raise InputError(f"`passages` must be a list, got {shown(passages)}")
    texts = tuple(_text_of(number, passage) for number, passage in enumerate(passages))
    return Question(query, texts, tuple(each if isinstance(each, dict) else {} for each in passages))


def _text_of(number: int, passage: object) -> str:
    if isinstance(passage, str):
        return passage
    if isinstance(passage, dict):
        return passage_text(Record(f"`passages[{number}]`", 0, passage))
    raise InputError(f"`passages[{number}]` must be a string or an object, got {shown(passage)}")


def kept(fields: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
    """Fields of a row that come back beside its answer, under names that the answer leaves free."""
    return {free_name(name, ANSWER): value for name, value in fields.items() if name != "passages"}


def free_name(name: str, taken: Collection[str]) -> str:
    """Name of an input's column, which becomes `input_NAME` where the answer has one of this name."""
    return f"input_{name}" if name in taken else name


class RowRanker:
    """Ranks the rows of a part together, those of similar length beside each other.

    Args:
        reranker: Loaded model.
        top_k: Hits of a row; None for all.
        where: Condition on the metadata of judged examples; None for all.
        has_texts: Hits have their texts.

    Attributes:
        columns: Columns of an answer.
        has_texts: Hits have their texts.
    """

    def __init__(
        self,
        reranker: Reranker,
        *,
        top_k: int | None = None,
        where: Callable[[Mapping[str, Any]], bool] | None = None,  # Any: JSON
        has_texts: bool = True,
    ) -> None:
        self._reranker = reranker
        self._top_k = top_k
        self._where = where
        self.has_texts = has_texts
        self.columns = tuple(name for name in ANSWER if name != "ranking_id" or reranker.log is not None)

    def answers(self, rows: Sequence[Mapping[str, Any] | str]) -> list[Answer]:  # Any: JSON
        """Answer rows.

        Args:
            rows: Fields of each row; a string for one that has none, which says why.

        Returns:
            One answer a row. A row that cannot be ranked has only an `error`.
        """
        questions = [_question_or_error(row) for row in rows]
        order = [number for number, each in enumerate(questions) if isinstance(each, Question)]
        asked = {number: each for number, each in enumerate(questions) if isinstance(each, Question)}
        order.sort(key=lambda number: asked[number].num_chars)
        pairs = ((asked[number].query, asked[number].texts) for number in order)
        rankings: list[Ranking | str] = []
        for queries, lists in query_batches(pairs, self._reranker.runtime.batch_tokens):
            rankings += self._rankings(queries, lists)
        found = dict(zip(order, rankings, strict=True))
        return [self._answer(each, found.get(number, each)) for number, each in enumerate(questions)]

    def _rankings(self, queries: Sequence[str], lists: Sequence[Sequence[Any]]) -> list[Ranking | str]:
        """Rankings, or why there is none: what fails together is tried alone, so that one row spoils no other."""
        try:
            return list(self._reranker.rank_many(queries, lists, self._top_k, where=self._where))
        except (InputError, DataError, BackendError) as error:
            if len(queries) == 1:
                return [str(error)]
        return [self._rankings([query], [texts])[0] for query, texts in zip(queries, lists, strict=True)]

    def _answer(self, question: Question | str, ranking: Ranking | Question | str) -> Answer:
        if not isinstance(ranking, Ranking):
            return {**dict.fromkeys(self.columns), "error": ranking}
        assert isinstance(question, Question), "it was ranked"
        hits = [with_fields(hit.to_dict(), question.documents[hit.index]) for hit in ranking]
        if not self.has_texts:
            for hit in hits:
                del hit["text"]
        query = ranking.truncated_query
        answer = {
            "hits": hits,
            "ranking_id": ranking.id,
            "answerable": ranking.answerable,
            "num_tokens": ranking.num_tokens,
            "truncated_query": None if query is None else asdict(query),
            "truncated": [asdict(each) for each in ranking.truncated],
            "repaired": list(ranking.repaired),
            "warnings": list(ranking.warnings),
            "error": None,
        }
        return {name: answer[name] for name in self.columns}


def _question_or_error(row: Mapping[str, Any] | str) -> Question | str:
    if isinstance(row, str):
        return row
    try:
        return question_of(row)
    except (InputError, DataError) as error:
        return str(error)
