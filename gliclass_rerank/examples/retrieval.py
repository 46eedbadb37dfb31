"""Selection of examples for a query or text: given by the caller, else found in the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

from gliclass_rerank.checks import checked_cosine, checked_count, checked_flag, of_settings
from gliclass_rerank.errors import BackendError, ConfigError, shown
from gliclass_rerank.examples.carry_over import MIN_NEIGHBOUR_SIMILARITY, NUM_NEIGHBOURS, carried_over
from gliclass_rerank.examples.filters import Metadata, Where
from gliclass_rerank.examples.judgements import Recalled, verdicts
from gliclass_rerank.examples.opened import opened_store
from gliclass_rerank.examples.source import (
    ExampleSource,
    FeedbackSource,
    JudgementSource,
    Neighbour,
    NeighbourSource,
    checked_store,
    failures_named,
)
from gliclass_rerank.examples.text_identity import text_identity
from gliclass_rerank.types import Example

Examples = Sequence[Example | Mapping[str, Any]]  # Any: upstream's JSON-like examples


class Retrieval:
    """Selector of examples; thread-safe.

    Args:
        store: Path of an `ExampleStore`, any source, or None.
        num_examples: Maximum number of examples to show; 0 for none.
        min_example_similarity: Minimum cosine of an example.
        allow_same_text: Use judgements and examples of the queried text itself.

    Attributes:
        source: Example source; None without a store.
        num_examples: Maximum number of examples to show; 0 for none.
        min_example_similarity: Minimum cosine of an example.
        allow_same_text: Use judgements and examples of the queried text itself.

    Raises:
        ConfigError: An argument has the wrong type or is out of range, or another encoder filled the store.
        DataError: The store cannot be opened.
    """

    def __init__(
        self,
        store: str | Path | ExampleSource | None,
        *,
        num_examples: int,
        min_example_similarity: float,
        allow_same_text: bool,
    ) -> None:
        given = checked_store(store)
        with of_settings():
            self.num_examples = checked_count("num_examples", num_examples, least=0)
            self.min_example_similarity = checked_cosine("min_example_similarity", min_example_similarity)
            self.allow_same_text = checked_flag("allow_same_text", allow_same_text)
            self.source = opened_store(given) if isinstance(given, (str, Path)) else given

    def shown(
        self, texts: Sequence[str], by_hand: Examples | None = None, *, where: Where = None
    ) -> list[tuple[Example, ...]]:
        """Select the examples of several texts, see `recall`."""
        return [recalled.examples for recalled in self.recall(texts, by_hand, where=where)]

    def recall(
        self,
        texts: Sequence[str],
        by_hand: Examples | None = None,
        *,
        needed: Sequence[bool] | None = None,
        passages: Sequence[Sequence[str]] | None = None,
        where: Where = None,
    ) -> list[Recalled]:
        """Select the examples of several texts, in one search, and look up their own judgements.

        With passages, what similar queries judged among them is carried over, and not shown.

        Args:
            texts: Queries, or texts to classify.
            by_hand: Examples for all texts, possibly none, in place of the store; None queries the store.
            needed: Texts that need examples; None for all.
            passages: Passages to rank, one list per text, as the store knows them; None for none.
            where: Required metadata values, or a predicate on the metadata.

        Returns:
            Examples and judgements per text.

        Raises:
            InputError: `by_hand` holds something else than examples, or an empty one, or `where` has the wrong type.
            BackendError: The store failed, or cannot filter.
        """
        wanted = [True] * len(texts) if needed is None else needed
        if by_hand is not None:
            shown = Recalled(tuple(example.complete() for example in Example.list_of(by_hand)))
            return [shown if is_wanted else Recalled() for is_wanted in wanted]
        lists: Sequence[Sequence[str]] = [()] * len(texts) if passages is None else passages
        asked = list(compress(texts, wanted))
        if self.source is None or not asked:
            return [Recalled()] * len(texts)
        scope = {} if where is None else {"where": where}
        found = iter(self._found(self.source, asked, list(compress(lists, wanted)), scope))
        return [next(found) if is_wanted else Recalled() for is_wanted in wanted]

    def _found(
        self,
        source: ExampleSource,
        texts: Sequence[str],
        lists: Sequence[Sequence[str]],
        scope: Mapping[str, Any],
    ) -> list[Recalled]:
        with failures_named():
            near, found = self._search(source, texts, scope)
            own = found
            if not self.allow_same_text:
                own = [()] * len(texts)
            elif isinstance(source, JudgementSource):
                own = _read(source.find_judgements(texts, **scope), len(texts))
        recalled = []
        for text, neighbours, examples, judged, passages in zip(texts, near, found, own, lists, strict=True):
            others = [each for each in neighbours if not _is_of(each.example, text)]
            carried, log_odds = carried_over(others, passages, self.min_example_similarity)
            # Sources exclude these themselves; checked again, because a leaked answer must not depend on it.
            shown = tuple(
                each
                for each in self._nearest(neighbours, examples)
                if each not in carried and (self.allow_same_text or not _is_of(each, text))
            )
            of_text = verdicts(example for example in judged if _is_of(example, text))
            recalled.append(Recalled(shown, carried, log_odds, of_text))
        return recalled

    def _search(
        self, source: ExampleSource, texts: Sequence[str], scope: Mapping[str, Any]
    ) -> tuple[list[tuple[Neighbour, ...]], list[tuple[Example, ...]]]:
        """Neighbours of each text, if the source tells similarities, and its examples."""
        count, least, options = self.num_examples, self.min_example_similarity, {"allow_equal": self.allow_same_text}
        if not isinstance(source, NeighbourSource):
            # One at least: it may be the text's own.
            found = source.find_examples(texts, max(count, 1), least, **options, **scope)
            return [()] * len(texts), _read(found, len(texts))
        depth, floor = max(count, NUM_NEIGHBOURS), min(least, MIN_NEIGHBOUR_SIMILARITY)
        near = _read_near(source.find_neighbours(texts, depth, floor, **options, **scope), len(texts))
        return near, [tuple(each.example for each in some) for some in near]

    def _nearest(self, neighbours: Sequence[Neighbour], found: Sequence[Example]) -> Sequence[Example]:
        """As many of the examples found as may be shown; without neighbours the source kept to the least cosine."""
        if not neighbours:
            return found[: self.num_examples]
        least = self.min_example_similarity
        return [each.example for each in neighbours[: self.num_examples] if each.similarity >= least]

    def learn(
        self, example: Example, *, id: str | None, metadata: Metadata | None, where: Metadata | None = None
    ) -> str:
        """Write judgements into the store.

        Args:
            example: Judged example.
            id: Id of the example; None for one from its text.
            metadata: JSON values to store with it.
            where: JSON values that keep these judgements apart from others.

        Returns:
            Id of the example.

        Raises:
            ConfigError: There is no store, or it is not writable.
            InputError: `id`, `metadata` or `where` is invalid, or the store is read-only.
            BackendError: The store failed.
        """
        if self.source is None:
            raise ConfigError("feedback needs a store, pass `example_store`, got None")
        if not isinstance(self.source, FeedbackSource):
            raise ConfigError(
                f"feedback needs a store with `add_judgements`, as `ExampleStore` has; `example_store` cannot be "
                f"written to, got {shown(self.source)}"
            )
        scope = {} if where is None else {"where": where}
        with failures_named():
            return self.source.add_judgements(example, id=id, metadata=metadata, **scope)


def _is_of(example: Example, text: str) -> bool:
    return text_identity(example.text) == text_identity(text)


def _is_complete(example: Example) -> bool:
    return bool(example.text.strip() and (example.true_labels or example.false_labels))


def _read_near(answers: Sequence[Sequence[Neighbour]], count: int) -> list[tuple[Neighbour, ...]]:
    """Neighbours of a store that show something."""
    near = [tuple(each for each in neighbours if _is_complete(each.example)) for neighbours in answers]
    _check_count(near, count)
    return near


def _read(answers: Sequence[Examples], count: int) -> list[tuple[Example, ...]]:
    """Examples of a store that show something."""
    read = [tuple(each for each in Example.list_of(examples) if _is_complete(each)) for examples in answers]
    _check_count(read, count)
    return read


def _check_count(answers: Sequence[object], count: int) -> None:
    if len(answers) != count:
        raise BackendError(f"the example store must answer each of {count} texts, got {len(answers)} answers")
