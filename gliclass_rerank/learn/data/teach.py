"""Teacher scoring: adds one teacher's scores to a file of records.

Chunks are fixed and written at once, because int8 scores depend slightly on the batch. A killed run repeats its last
chunk and ends with the same file, byte for byte.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from gliclass_rerank.errors import DataError, InputError, shown
from gliclass_rerank.learn.data.partial import PartialFile, check_target
from gliclass_rerank.learn.data.progress import Progress, silent
from gliclass_rerank.learn.data.records import RankingRecord, read_records
from gliclass_rerank.text_models.interfaces import Teacher

# As in mining: little is lost to a kill, and batches are filled.
_CHUNK_RECORDS: Final = 32


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """Settings of a scoring run.

    Attributes:
        source: File of records.
        teacher: Name of the scores.
        target: New file; None replaces the source.
        overwrite: Replace scores of the same name.
        model: Other settings that affect the scores, as JSON values: model and options. A resumed run must have the
            same.
    """

    source: Path
    teacher: str
    target: Path | None = None
    overwrite: bool = False
    model: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON

    def __post_init__(self) -> None:
        if not self.teacher.strip():
            raise InputError(f"a teacher's name must not be blank, got {shown(self.teacher)}")

    @property
    def output(self) -> Path:
        """Target file."""
        return self.source if self.target is None else self.target

    @property
    def is_in_place(self) -> bool:
        """True if the source is replaced."""
        return self.output.resolve() == self.source.resolve()


@dataclass(frozen=True)
class TeachingReport:
    """Statistics of a scoring run. Speeds cover the teacher alone, tokenising included.

    Attributes:
        num_records: Records in the file.
        num_resumed: Records scored by earlier runs.
        num_pairs: Query-passage pairs scored in this run.
        num_tokens: Tokens read in this run, without padding.
        seconds: Time spent in the teacher.
    """

    num_records: int
    num_resumed: int
    num_pairs: int
    num_tokens: int
    seconds: float

    @property
    def pairs_per_second(self) -> float:
        """Pairs per second; 0 if nothing was left to score."""
        return self.num_pairs / self.seconds if self.num_pairs else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second; 0 if nothing was left to score."""
        return self.num_tokens / self.seconds if self.num_pairs else 0.0


def teach(teaching: Teaching, teacher: Teacher, *, progress: Progress = silent) -> TeachingReport:
    """Score every passage of every record, resuming an unfinished run; the output appears when complete.

    Args:
        teaching: Settings of the run.
        teacher: Teacher.
        progress: Progress of pairs scored.

    Returns:
        Statistics.

    Raises:
        InputError: The records have scores of this name, the output cannot be written, or an unfinished run has other
            settings.
        DataError: The source is unreadable or malformed; raised before scoring.
        BackendError: The teacher failed.
    """
    check_target(teaching.output, replacing=teaching.is_in_place)
    sizes = _survey(teaching)
    with PartialFile(teaching.output, _settings(teaching, sizes), replacing=teaching.is_in_place) as partial:
        done = partial.num_lines // _CHUNK_RECORDS * _CHUNK_RECORDS
        if partial.num_lines == len(sizes):
            done = len(sizes)  # killed between the last line and the renaming
        partial.keep(done)
        rest = islice(read_records(teaching.source), done, None)
        num_tokens, seconds = 0, 0.0
        with progress("pairs", sum(sizes), sum(sizes[:done])) as advance:
            while chunk := list(islice(rest, _CHUNK_RECORDS)):
                started = time.perf_counter()
                scored = teacher.score([(record.query, record.passages) for record in chunk])
                seconds += time.perf_counter() - started
                num_tokens += scored.num_tokens
                partial.append(
                    [
                        record.with_scores(teaching.teacher, scores)
                        for record, scores in zip(chunk, scored.scores, strict=True)
                    ]
                )
                advance(sum(len(record.passages) for record in chunk))
        partial.finish()
    return TeachingReport(
        num_records=len(sizes),
        num_resumed=done,
        num_pairs=sum(sizes[done:]),
        num_tokens=num_tokens,
        seconds=max(seconds, 1e-9),  # a coarse clock may not advance
    )


def check_source(teaching: Teaching) -> None:
    """Check that `teach` can start, before a teacher is loaded; errors as for `teach`."""
    check_target(teaching.output, replacing=teaching.is_in_place)
    _survey(teaching)


def _survey(teaching: Teaching) -> list[int]:
    """Validate the whole source in advance, and count each record's passages."""
    sizes = [len(record.passages) for record in _new_records(teaching)]
    if not sizes:
        raise DataError(f"{teaching.source}: there are no records to score")
    return sizes


def _new_records(teaching: Teaching) -> Iterator[RankingRecord]:
    for record in read_records(teaching.source):
        if teaching.teacher in record.teacher_scores and not teaching.overwrite:
            raise InputError(
                f"{shown(str(teaching.source))} has scores of a teacher {shown(teaching.teacher)} already; "
                "choose another name, or overwrite them"
            )
        yield record


def _settings(teaching: Teaching, sizes: list[int]) -> dict[str, Any]:  # Any: JSON
    """Settings that a resumed run must share; the source's size stands for its contents."""
    return {
        "source": str(teaching.source),
        "source_bytes": teaching.source.stat().st_size,
        "num_records": len(sizes),
        "teacher": teaching.teacher,
        "model": dict(teaching.model),
    }
