"""Teacher scoring: adds the scores of one teacher to a file of records.

Records are scored in chunks that always hold the same records, and a chunk is written in one go: with int8 models the
score of a passage depends a little on what shares its batch, so only equal batches give equal scores. A run that was
killed therefore repeats its last chunk and ends with the same file, byte for byte.
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

# As in mining: little is lost to a kill, and batches of similar length are filled.
_CHUNK_RECORDS: Final = 32


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """What is scored, and by whom.

    Attributes:
        source: File of records.
        teacher: Name under which the scores are written.
        target: File to write; None writes the source anew. A file that exists otherwise is refused.
        overwrite: Whether scores of the same name are replaced.
        model: What else decides the scores, as JSON values: the model and its options, in the caller's words. A run
            can be resumed only with the same.
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
        """The file that is written."""
        return self.source if self.target is None else self.target

    @property
    def is_in_place(self) -> bool:
        """Whether the source is replaced."""
        return self.output.resolve() == self.source.resolve()


@dataclass(frozen=True)
class TeachingReport:
    """What a run did. Speeds are over the time spent in the teacher, tokenising included.

    Attributes:
        num_records: Records in the file.
        num_resumed: Those of them that earlier runs have scored.
        num_pairs: Pairs of a query and a passage scored in this run.
        num_tokens: Tokens the teacher read in this run, without padding.
        seconds: Time spent in the teacher.
    """

    num_records: int
    num_resumed: int
    num_pairs: int
    num_tokens: int
    seconds: float

    @property
    def pairs_per_second(self) -> float:
        """Pairs a second; 0 if nothing was left to score."""
        return self.num_pairs / self.seconds if self.num_pairs else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens a second; 0 if nothing was left to score."""
        return self.num_tokens / self.seconds if self.num_pairs else 0.0


def teach(teaching: Teaching, teacher: Teacher, *, progress: Progress = silent) -> TeachingReport:
    """Score every passage of every record.

    The output appears when it is complete; an unfinished run is continued.

    Args:
        teaching: What to do.
        teacher: Scores the passages.
        progress: Told how many pairs are scored.

    Returns:
        What was done, and how fast.

    Raises:
        InputError: The records have scores of this name already, the output cannot be written, or an unfinished run
            with other settings is in its place.
        DataError: The source cannot be read or a line of it is malformed; found before anything is scored.
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
        seconds=max(seconds, 1e-9),  # a coarse clock may see no time pass
    )


def check_source(teaching: Teaching) -> None:
    """Find out whether `teach` could start, before a teacher is loaded.

    Args:
        teaching: What to do.

    Raises:
        InputError: As for `teach`.
        DataError: As for `teach`.
    """
    check_target(teaching.output, replacing=teaching.is_in_place)
    _survey(teaching)


def _survey(teaching: Teaching) -> list[int]:
    """Read the whole source once, so that line 90,000 is not found wanting after a day; passages of each record."""
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
    """What a resumed run must share; the source's size stands for its contents."""
    return {
        "source": str(teaching.source),
        "source_bytes": teaching.source.stat().st_size,
        "num_records": len(sizes),
        "teacher": teaching.teacher,
        "model": dict(teaching.model),
    }
