"""Selection of examples for a query or text: given by the caller, else found in the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gliclass_rerank.checks import checked_cosine, checked_count, checked_flag, of_settings
from gliclass_rerank.errors import BackendError, ConfigError, shown
from gliclass_rerank.examples.filters import Metadata
from gliclass_rerank.examples.opened import opened_store
from gliclass_rerank.examples.source import ExampleSource, FeedbackSource, checked_store, failures_named
from gliclass_rerank.examples.text_identity import text_identity
from gliclass_rerank.types import Example

Examples = Sequence[Example | Mapping[str, Any]]  # Any: upstream's JSON-like examples


class Retrieval:
    """Selector of examples; thread-safe.

    Args:
        store: Path of an `ExampleStore`, any source, or None.
        num_examples: Maximum number of examples.
        min_example_similarity: Minimum cosine of an example.
        allow_same_text: Allow examples with the queried text.

    Attributes:
        source: Example source; None without a store.
        num_examples: Maximum number of examples.
        min_example_similarity: Minimum cosine of an example.
        allow_equal: Allow examples with the queried text.

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
            self.num_examples = checked_count("num_examples", num_examples)
            self.min_example_similarity = checked_cosine("min_example_similarity", min_example_similarity)
            self.allow_same_text = checked_flag("allow_same_text", allow_same_text)
            self.source = opened_store(given) if isinstance(given, (str, Path)) else given

    def shown(
        self, texts: Sequence[str], by_hand: Examples | None = None, *, needed: Sequence[bool] | None = None
    ) -> list[tuple[Example, ...]]:
        """Select the examples of several texts, in one search.

        Args:
            texts: Queries, or texts to classify.
            by_hand: Examples for all texts, possibly none; None queries the store.
            needed: Texts that need examples; None for all.

        Returns:
            Examples per text, the store's by descending similarity.

        Raises:
            InputError: `by_hand` holds something else than examples, or one that shows nothing.
            BackendError: The store failed.
        """
        wanted = [True] * len(texts) if needed is None else needed
        if by_hand is not None:
            shown = tuple(example.complete() for example in Example.list_of(by_hand))
            return [shown if is_wanted else () for is_wanted in wanted]
        asked = [text for text, is_wanted in zip(texts, wanted, strict=True) if is_wanted]
        if self.source is None or not asked:
            return [()] * len(texts)
        found = iter(self._found(asked))
        return [next(found) if is_wanted else () for is_wanted in wanted]

    def _found(self, texts: Sequence[str]) -> list[tuple[Example, ...]]:
        assert self.source is not None, "asked for only where there is one"
        with failures_named():
            found = self.source.find_examples(
                texts, self.num_examples, self.min_example_similarity, allow_equal=self.allow_same_text
            )
            answers = [Example.list_of(examples) for examples in found]
        if len(answers) != len(texts):
            raise BackendError(f"the example store must answer each of {len(texts)} texts, got {len(answers)} answers")
        return [
            tuple(example for example in examples if self._may_be_shown(example, text))
            for examples, text in zip(answers, texts, strict=True)
        ]

    def _may_be_shown(self, example: Example, text: str) -> bool:
        if not example.text.strip() or not (example.true_labels or example.false_labels):
            return False  # it would show nothing
        # Sources exclude these themselves; checked again, because a leaked answer must not depend on it.
        return self.allow_same_text or text_identity(example.text) != text_identity(text)

    def learn(self, example: Example, *, id: str | None, metadata: Metadata | None) -> str:
        """Write judgements into the store.

        Args:
            example: Judged example.
            id: Id of the example; None for one from its text.
            metadata: JSON values to store with it.

        Returns:
            Id of the example.

        Raises:
            ConfigError: There is no store, or it is not writable.
            InputError: `id` or `metadata` is invalid, or the store is read-only.
            BackendError: The store failed.
        """
        if self.source is None:
            raise ConfigError("feedback needs a store, pass `example_store`, got None")
        if not isinstance(self.source, FeedbackSource):
            raise ConfigError(
                f"feedback needs a store with `add_judgements`, as `ExampleStore` has; `example_store` cannot be "
                f"written to, got {shown(self.source)}"
            )
        with failures_named():
            return self.source.add_judgements(example, id=id, metadata=metadata)
