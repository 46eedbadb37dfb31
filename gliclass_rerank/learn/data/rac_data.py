"""Training data with judged examples: records with similar records in them.

A record's examples depend on seed, position and neighbours alone, so a killed run repeats its last chunk and ends with
the same file, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from gliclass_rerank.errors import ConfigError, shown
from gliclass_rerank.examples.backends import Backend
from gliclass_rerank.examples.encoders import LocalEncoder, StoreEncoder, encode_checked
from gliclass_rerank.examples.index import FloatArray
from gliclass_rerank.examples.search import similarities
from gliclass_rerank.learn.data.example_pool import ExamplePool
from gliclass_rerank.learn.data.labelled import JsonLine, find_kind, open_labelled
from gliclass_rerank.learn.data.neighbours import NeighbourSearch, VectorFile, uses_faiss
from gliclass_rerank.learn.data.partial import PartialFile, check_target
from gliclass_rerank.learn.data.progress import Progress, silent
from gliclass_rerank.learn.data.statistics import RacStatistics, count_examples
from gliclass_rerank.learn.training.examples import example_of
from gliclass_rerank.learn.training.source_config import Kind, Unjudged
from gliclass_rerank.learn.training.sources import data_file
from gliclass_rerank.types import Example

_CHUNK_RECORDS: Final = 64
# Draws for a random example before the neighbour is kept: a tiny pool may be exhausted.
_MAX_DRAWS: Final = 10


@dataclass(frozen=True, kw_only=True)
class RacData:
    """Settings of a run.

    Attributes:
        source: Labelled records: a file of either kind, or a folder with `<split>.jsonl`.
        kind: Kind of records; None detects it.
        split: File of a folder.
        pool: Records to take examples from; None for the source's own. For a dev set use the training set, as at
            inference.
        labels: All labels, for classification records without them; None reads `labels.json` beside.
        num_records: Random sample size; None for all.
        max_neighbours: Number of most similar records considered.
        min_similarity: Minimum cosine of a neighbour, in [-1, 1].
        min_examples: Lower limit of the random number of examples.
        max_examples: Upper limit; a record with fewer neighbours gets all of them.
        random_share: Probability of replacing an example by a random record.
        drop_false_share: Probability of hiding the false labels of an example with true ones.
        max_true: Relevant passages or true labels per example; None for 1 passage, or all labels.
        max_false: Irrelevant passages or false labels per example; None for 1 passage, or 3 labels.
        unjudged: Treatment of ungraded passages, as in training.
        backend: Index backend, as for an `ExampleStore`.
        seed: Seed of every random choice.
    """

    source: Path
    kind: Kind | None = None
    split: str = "train"
    pool: Path | None = None
    labels: tuple[str, ...] | None = None
    num_records: int | None = None
    max_neighbours: int = 3
    min_similarity: float = 0.5
    min_examples: int = 1
    max_examples: int = 3
    random_share: float = 0.3
    drop_false_share: float = 0.5
    max_true: int | None = None
    max_false: int | None = None
    unjudged: Unjudged = "ignore"
    backend: Backend = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("num_records", 1), ("max_true", 0), ("max_false", 0), ("min_examples", 0), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"`{name}` must be at least {least}, got {value}")
        if not max(1, self.min_examples) <= self.max_examples <= self.max_neighbours:
            raise ConfigError(
                "`min_examples`, `max_examples` and `max_neighbours` must ascend, and the last two be at least 1, "
                f"got {self.min_examples}, {self.max_examples} and {self.max_neighbours}"
            )
        if not -1 <= self.min_similarity <= 1:
            raise ConfigError(f"`min_similarity` must be between -1 and 1, got {self.min_similarity}")
        for name in ("random_share", "drop_false_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"`{name}` must be between 0 and 1, got {getattr(self, name)}")
        if self.kind not in {None, "ranking", "classification"}:
            raise ConfigError(f"`kind` must be ranking or classification, got {shown(self.kind)}")
        if self.unjudged not in {"ignore", "negative"}:
            raise ConfigError(f"`unjudged` must be ignore or negative, got {shown(self.unjudged)}")


def make_rac_data(
    target: Path, settings: RacData, encoder: StoreEncoder | None = None, *, progress: Progress = silent
) -> RacStatistics:
    """Write records with examples in them.

    Lines keep their order and fields except `examples`. Records without neighbours have none, so that training sees
    such.

    Args:
        target: New `.jsonl` file. An unfinished run of the same name is resumed.
        settings: Settings of the run.
        encoder: Text encoder; None for the bundled model's backbone.
        progress: Progress of texts encoded, vectors indexed and records written.

    Returns:
        Statistics of the file.

    Raises:
        InputError: The target cannot be written, or belongs to a run with other settings.
        DataError: A file is missing or malformed; raised before encoding.
        ConfigError: Unknown backend.
        BackendError: The encoder failed.
        MissingDependencyError: The backend's package is not installed.
    """
    check_target(target, replacing=False)
    path = data_file(settings.source, settings.split)
    kind = settings.kind or find_kind(path)
    records = open_labelled(path, kind, settings.labels)
    pool_path = path if settings.pool is None else data_file(settings.pool, settings.split)
    pool = ExamplePool(
        records if pool_path == path else open_labelled(pool_path, kind, settings.labels), settings.unjudged
    )
    positions = _sampled(len(records), settings)
    encoder = LocalEncoder() if encoder is None else encoder
    # Settings that a resumed run must share; sizes stand for the contents of files.
    recorded = {
        **asdict(settings),
        "source": str(path),
        "source_bytes": path.stat().st_size,
        "pool": str(pool_path),
        "pool_bytes": pool_path.stat().st_size,
        "kind": kind,
        "encoder": encoder.fingerprint,
        "with_faiss": uses_faiss(settings.backend, len(pool)),
    }
    with PartialFile(target, recorded) as partial:
        partial.scratch.mkdir(exist_ok=True)
        vectors = VectorFile(partial.scratch / "vectors.f32", len(pool), pool.texts, encoder, progress=progress)
        search = NeighbourSearch(vectors, settings.backend, path=partial.scratch / "index", progress=progress)
        maker = _Maker(settings, pool, vectors, search, encoder)
        done = partial.num_lines // _CHUNK_RECORDS * _CHUNK_RECORDS
        if partial.num_lines == len(positions):
            done = len(positions)  # killed between the last line and the renaming
        partial.keep(done)
        with progress("records", len(positions), done) as advance:
            for start in range(done, len(positions), _CHUNK_RECORDS):
                chunk = positions[start : start + _CHUNK_RECORDS]
                asked = [records[position] for position in chunk]
                found = maker.examples(chunk, [labelled.text for labelled in asked])
                lines: list[JsonLine] = [
                    labelled.with_examples(examples) for labelled, examples in zip(asked, found, strict=True)
                ]
                partial.append(lines)
                advance(len(chunk))
        partial.finish()
    return count_examples(target, kind)


def _sampled(num_records: int, settings: RacData) -> list[int]:
    if settings.num_records is None or settings.num_records >= num_records:
        return list(range(num_records))
    rng = np.random.default_rng([settings.seed, num_records])
    return sorted(rng.choice(num_records, size=settings.num_records, replace=False).tolist())


class _Maker:
    """Selector of examples for chunks of records."""

    def __init__(
        self,
        settings: RacData,
        pool: ExamplePool,
        vectors: VectorFile,
        search: NeighbourSearch,
        encoder: StoreEncoder,
    ) -> None:
        self._settings, self._pool, self._vectors, self._search = settings, pool, vectors, search
        self._encoder = encoder

    def examples(self, positions: Sequence[int], texts: Sequence[str]) -> list[list[dict[str, Any]]]:  # Any: JSON
        """Select examples, as JSON values in prompt order, for records at some positions, which seed the draws."""
        own = [self._pool.row_of(text) for text in texts]
        queries = self._query_vectors(texts, own)
        # One more, because a text of the pool finds itself.
        found = self._search.find(queries, self._settings.max_neighbours + 1)
        return [
            list(self._shown(row, query, neighbours, np.random.default_rng([self._settings.seed, 1, position])))
            for position, row, query, neighbours in zip(positions, own, queries, found, strict=True)
        ]

    def _query_vectors(self, texts: Sequence[str], own: Sequence[int | None]) -> FloatArray:
        """Vectors of texts; those of the pool are already encoded."""
        vectors = np.zeros((len(texts), self._vectors.dim), dtype=np.float32)
        known = [place for place, row in enumerate(own) if row is not None]
        vectors[known] = self._vectors[np.array([own[place] for place in known], dtype=np.int64)]
        others = [place for place, row in enumerate(own) if row is None]
        vectors[others] = encode_checked(self._encoder, [texts[place] for place in others], dim=self._vectors.dim)
        return vectors

    def _shown(
        self,
        own: int | None,
        query: FloatArray,
        found: Sequence[tuple[int, float]],
        rng: np.random.Generator,
    ) -> Iterator[dict[str, Any]]:  # Any: JSON
        settings = self._settings
        neighbours = [row for row, value in found if row != own and value >= settings.min_similarity]
        neighbours = neighbours[: settings.max_neighbours]
        num_wanted = int(rng.integers(settings.min_examples, settings.max_examples + 1))
        # Most similar first, as from a store.
        chosen = [neighbours[place] for place in sorted(rng.permutation(len(neighbours))[:num_wanted].tolist())]
        taken = {own, *chosen}
        for neighbour in chosen:
            row = neighbour
            if rng.random() < settings.random_share:
                row = self._random_row(taken, rng, otherwise=neighbour)
                taken.add(row)
            example = self._example(row, rng)
            if not (example.true_labels or example.false_labels):
                continue  # nothing is left under a `max_true` or `max_false` of 0
            (similarity,) = similarities(self._vectors[np.array([row])], query)
            yield {
                **example.to_dict(),
                "similarity": float(similarity),
                "is_random": row != neighbour,
            }

    def _random_row(self, taken: set[int | None], rng: np.random.Generator, *, otherwise: int) -> int:
        for _ in range(_MAX_DRAWS):
            row = int(rng.integers(len(self._pool)))
            if row not in taken:
                return row
        return otherwise

    def _example(self, row: int, rng: np.random.Generator) -> Example:
        settings = self._settings
        example = example_of(
            self._pool[row].record,
            rng,
            max_true=settings.max_true,
            max_false=settings.max_false,
            unjudged=settings.unjudged,
        )
        drops = rng.random() < settings.drop_false_share
        return Example(example.text, example.true_labels) if drops and example.true_labels else example
