"""Interface between models and stores of judged examples. Importing it loads nothing heavy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from gliclass_rerank.checks import of_settings, reading
from gliclass_rerank.errors import BackendError, ConfigError, DataError, GLiClassRerankError, cause, shown
from gliclass_rerank.types import Example

if TYPE_CHECKING:
    from gliclass_rerank.examples.filters import Where


@runtime_checkable
class ExampleSource(Protocol):
    """Source of judged examples, such as `ExampleStore` or an adapter over a vector store; thread-safe."""

    def find_examples(
        self, texts: Sequence[str], k: int, min_similarity: float, *, allow_equal: bool = False
    ) -> list[list[Example]]:
        """Find the examples whose texts are most similar.

        A source that can filter also takes `where`: required metadata values. It is passed only if the caller set it.

        Args:
            texts: Queries, or texts to classify.
            k: Maximum number of examples per text.
            min_similarity: Minimum cosine, in [-1, 1].
            allow_equal: Allow examples with the same text, regardless of case and white space; they give the answer
                away.

        Returns:
            Examples per text, most similar first.

        Raises:
            InputError: An argument has the wrong type or is out of range.
            BackendError: The search failed.
        """
        ...


class Neighbour(NamedTuple):
    """Example near a text.

    Attributes:
        example: Example.
        similarity: Cosine of the two texts, in [-1, 1].
    """

    example: Example
    similarity: float


@runtime_checkable
class NeighbourSource(ExampleSource, Protocol):
    """Source that tells how similar its examples are, such as `ExampleStore`; their judgements are carried over."""

    def find_neighbours(
        self, texts: Sequence[str], k: int, min_similarity: float, *, allow_equal: bool = False
    ) -> list[list[Neighbour]]:
        """Find what `find_examples` finds, with similarities."""
        ...


class NeighbourFinder(ABC):
    """Base of sources that tell similarities: finding examples is finding neighbours."""

    @abstractmethod
    def find_neighbours(
        self, texts: Sequence[str], k: int, min_similarity: float, *, allow_equal: bool = False, where: Where = None
    ) -> list[list[Neighbour]]:
        """See `NeighbourSource`."""

    def find_examples(
        self, texts: Sequence[str], k: int, min_similarity: float, *, allow_equal: bool = False, where: Where = None
    ) -> list[list[Example]]:
        """Find the examples of `find_neighbours`."""
        found = self.find_neighbours(texts, k, min_similarity, allow_equal=allow_equal, where=where)
        return [[one.example for one in neighbours] for neighbours in found]


@runtime_checkable
class JudgementSource(ExampleSource, Protocol):
    """Source that looks up the judgements of a text exactly, such as `ExampleStore`."""

    def find_judgements(self, texts: Sequence[str], *, where: Any = None) -> list[list[Example]]:  # Any: see above
        """Find the examples of the very texts, regardless of case and white space, in order of writing."""
        ...


@runtime_checkable
class FeedbackSource(ExampleSource, Protocol):
    """Writable source, such as `ExampleStore`."""

    def add_judgements(
        self, example: Example, *, id: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> str:
        """Add an example, merged with earlier judgements of its text: the newest judgement of a label wins.

        A source that keeps judgements apart also takes `where`, passed only if the caller set it: metadata values.

        Args:
            example: Judged example.
            id: Id of the example; None derives it from the text, regardless of case and white space.
            metadata: JSON values to store with it.

        Returns:
            The id.
        """
        ...


def checked_store(store: object) -> str | Path | ExampleSource | None:
    """Validate an `example_store` argument: a path, a source or None, else a `ConfigError`."""
    with of_settings(), reading("`example_store`"):
        if store is None or (isinstance(store, (str, Path, ExampleSource)) and not isinstance(store, type)):
            return store
    raise ConfigError(
        f"`example_store` must be a path or have `find_examples`, as `ExampleStore` has, got {shown(store)}"
    )


@contextmanager
def failures_named() -> Iterator[None]:
    """Convert exceptions of a source or its client to `BackendError`; other errors of this library pass through."""
    try:
        yield
    except DataError as error:
        raise BackendError(str(error)) from error
    except GLiClassRerankError:
        raise
    except Exception as error:
        raise BackendError(f"the example store failed: {type(error).__name__}: {cause(error)}") from error
