"""Run of a job: read parts, rank those that are missing, store them, join."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from gliclass_rerank._version import __version__
from gliclass_rerank.batch.job import Job
from gliclass_rerank.batch.jsonl import JsonlFormat
from gliclass_rerank.batch.parquet import ParquetFormat
from gliclass_rerank.batch.parts import Count, Format, Part
from gliclass_rerank.batch.rows import RowRanker
from gliclass_rerank.batch.settings import BatchSettings
from gliclass_rerank.checks import named
from gliclass_rerank.errors import DataError
from gliclass_rerank.learn.evaluation.files import GZIP_SUFFIX
from gliclass_rerank.settings import RerankerSettings

RankParts = Callable[[Iterable[Part]], Iterator[tuple[Part, bytes]]]
"""Ranks parts and yields the content of each one's output, in any order."""


def run_job(
    inputs: Path,
    output: Path,
    settings: BatchSettings,
    reranker: RerankerSettings,
    where: Sequence[str],
    rank_parts: RankParts,
    *,
    progress: Callable[[int | None], Callable[[int], object]],
) -> Count:
    """Rank all rows of a file or folder.

    Args:
        inputs: `.jsonl`, `.jsonl.gz` or `.parquet` file, or a folder of files of one kind.
        output: File of the same format, or folder for one file a part.
        settings: Settings of the job.
        reranker: Settings of the model, for the facts of the job.
        where: Conditions on judged examples, likewise.
        rank_parts: What ranks.
        progress: Begins to show progress towards a number of rows, None if unknown; takes the rows done since the last
            call.

    Returns:
        Rows of the output.

    Raises:
        DataError: The input cannot be read.
        InputError: The output cannot be written, or an unfinished job differs.
    """
    paths = input_files(inputs)
    suffix = _suffix(paths[0])
    form = (ParquetFormat if suffix == ParquetFormat.suffix else JsonlFormat)(paths, settings.part_bytes)
    facts = {
        "version": __version__,
        "input": [[str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns] for path in paths],
        "reranker": reranker.to_dict(),
        "top_k": settings.top_k,
        "texts": settings.texts,
        "where": list(where),
        "part_bytes": settings.part_bytes,
    }
    with Job(output, suffix, facts) as job:
        return _run(job, form, rank_parts, progress)


def _run(
    job: Job, form: Format, rank_parts: RankParts, progress: Callable[[int | None], Callable[[int], object]]
) -> Count:
    update, num_parts = progress(form.num_rows()), 0

    def missing() -> Iterator[Part]:
        nonlocal num_parts
        for part in form.parts(job.is_stored):
            num_parts += 1
            if part.rows is None:
                update(part.num_rows)
            else:
                yield part

    for part, content in rank_parts(missing()):
        job.store(part.number, content)
        update(part.num_rows)
    if not num_parts:
        raise DataError("the input has no rows")
    return job.finish(num_parts, form)


def rank_here(load: Callable[[], RowRanker]) -> RankParts:
    """Rank in this process.

    Args:
        load: Loads the model, when the first part comes.

    Returns:
        Function for `run_job`.
    """

    def rank_parts(parts: Iterable[Part]) -> Iterator[tuple[Part, bytes]]:
        ranker = None
        for part in parts:
            ranker = ranker or load()
            assert part.rows is not None, "missing parts have rows"
            yield part, part.rows.ranked(ranker)

    return rank_parts


def input_files(inputs: Path) -> list[Path]:
    """Files of an input.

    Args:
        inputs: File, or folder; hidden files and those with a leading underscore do not count.

    Returns:
        The files, sorted by name.

    Raises:
        DataError: There is none, or they are of several kinds.
    """
    paths = [inputs]
    if inputs.is_dir():
        paths = sorted(path for path in inputs.iterdir() if path.is_file() and path.name[0] not in "._")
        if not paths:
            raise DataError(f"{named(inputs)}: has no files")
    elif not inputs.is_file():
        raise DataError(f"{named(inputs)}: must be a file that can be read again, or a folder of such files")
    kinds = {_suffix(path) for path in paths}
    for path in paths:
        if _suffix(path) not in (JsonlFormat.suffix, ParquetFormat.suffix):
            raise DataError(f"{named(path)}: the name of an input must end in .jsonl, .jsonl.gz or .parquet")
    if len(kinds) > 1:
        raise DataError(f"{named(inputs)}: must have files of one kind, it has {' and '.join(sorted(kinds))}")
    return paths


def _suffix(path: Path) -> str:
    return Path(path.name.removesuffix(GZIP_SUFFIX)).suffix
