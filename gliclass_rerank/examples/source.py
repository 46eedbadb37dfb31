"""Where examples come from: what ranking and classifying ask of a store, whoever keeps it.

Importing this module loads nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from gliclass_rerank.checks import of_settings, reading
from gliclass_rerank.errors import BackendError, ConfigError, DataError, GLiClassRerankError, cause, shown
from gliclass_rerank.types import Example


@runtime_checkable
class ExampleSource(Protocol):
    """Finds judged examples for texts. `ExampleStore` is one; so is an adapter over a framework's vector store.

    Several threads may call it at once.
    """

    def find_examples(
        self, texts: Sequence[str], k: int, min_similarity: float, *, allow_equal: bool = False
    ) -> list[list[Example]]:
        """Find the examples whose texts are most similar.

        Args:
            texts: Queries, or texts to classify.
            k: How many examples to find for each at most.
            min_similarity: The least cosine, in [-1, 1].
            allow_equal: Whether an example may have the very text it is asked for, whatever the case and white space:
                its judgement gives the answer away.

        Returns:
            For each text its examples, most similar first; possibly none.

        Raises:
            InputError: An argument of the wrong type or out of range.
            BackendError: The search failed.
        """
        ...


@runtime_checkable
class FeedbackSource(ExampleSource, Protocol):
    """A source that can be written to. `ExampleStore` is one."""

    def add_judgements(
        self, example: Example, *, id: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> str:
        """Put an example in or, if its text was judged before, join the two: the newer judgement of a label wins.

        Args:
            example: What was judged.
            id: Its name. None names it after its text, whatever the case and white space, so that all judgements of a
                text become one example.
            metadata: JSON values to keep with it.

        Returns:
            The id.
        """
        ...


def checked_store(store: object) -> str | Path | ExampleSource | None:
    """An `example_store` argument.

    Args:
        store: What was passed.

    Returns:
        The same.

    Raises:
        ConfigError: It is neither a path nor a source.
    """
    with of_settings(), reading("`example_store`"):
        if store is None or (isinstance(store, (str, Path, ExampleSource)) and not isinstance(store, type)):
            return store
    raise ConfigError(
        f"`example_store` must be a path or have `find_examples`, as `ExampleStore` has, got {shown(store)}"
    )


@contextmanager
def failures_named() -> Iterator[None]:
    """Make whatever a source or its client raises while it is used a `BackendError`.

    Errors of this library stay as they are, but for those of the store's file.

    Raises:
        BackendError: The source failed.
    """
    try:
        yield
    except DataError as error:
        raise BackendError(str(error)) from error
    except GLiClassRerankError:
        raise
    except Exception as error:
        raise BackendError(f"the example store failed: {type(error).__name__}: {cause(error)}") from error
