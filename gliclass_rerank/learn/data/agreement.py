"""Quality of teachers on judged records, and agreement between teachers.

nDCG@10 has linear gains; the ideal ranking uses the record's own passages, unjudged ones count 0. Kendall's tau-b
corrects for ties. Both are means over records.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

import numpy as np

from gliclass_rerank.learn.data.records import RankingRecord

_CUTOFF: Final = 10


@dataclass(frozen=True)
class Agreement:
    """Metrics of the teachers in a file.

    Attributes:
        ndcg_at_10: By teacher; only those that scored a record with a relevant passage.
        tau: By pair of teachers, in alphabetical order; only pairs with a common record.
        num_judged: Records behind each `ndcg_at_10`.
        num_compared: Records behind each `tau`.
    """

    ndcg_at_10: Mapping[str, float] = field(default_factory=dict)
    tau: Mapping[tuple[str, str], float] = field(default_factory=dict)
    num_judged: Mapping[str, int] = field(default_factory=dict)
    num_compared: Mapping[tuple[str, str], int] = field(default_factory=dict)


def compare_teachers(records: Iterable[RankingRecord]) -> Agreement:
    """Measure all teachers of some records; records of a single passage are ignored."""
    quality: dict[str, list[float]] = {}
    agreement: dict[tuple[str, str], list[float]] = {}
    for record in records:
        if len(record.passages) <= 1:
            continue
        for teacher, scores in record.teacher_scores.items():
            if record.has_positive:
                quality.setdefault(teacher, []).append(ndcg_at_10(scores, record.grades))
        for pair in combinations(sorted(record.teacher_scores), 2):
            tau = kendall_tau(record.teacher_scores[pair[0]], record.teacher_scores[pair[1]])
            if tau is not None:
                agreement.setdefault(pair, []).append(tau)
    return Agreement(
        ndcg_at_10={teacher: float(np.mean(values)) for teacher, values in sorted(quality.items())},
        tau={pair: float(np.mean(values)) for pair, values in sorted(agreement.items())},
        num_judged={teacher: len(values) for teacher, values in sorted(quality.items())},
        num_compared={pair: len(values) for pair, values in sorted(agreement.items())},
    )


def ndcg_at_10(scores: Sequence[float], grades: Sequence[float | None]) -> float:
    """nDCG@10 of one record, in [0, 1]; ties by position, None and negative grades count 0, at least one is above 0."""
    gains = [max(grade or 0.0, 0.0) for grade in grades]
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    return _discounted([gains[index] for index in order]) / _discounted(sorted(gains, reverse=True))


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains[:_CUTOFF]))


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Kendall's tau-b of two teachers' scores, in [-1, 1]; None if one of them scores all passages alike."""
    rows, columns = np.triu_indices(len(first), k=1)
    signs = [np.sign(values[rows] - values[columns]) for values in (np.asarray(first), np.asarray(second))]
    untied = math.sqrt(float(np.count_nonzero(signs[0])) * float(np.count_nonzero(signs[1])))
    return float((signs[0] * signs[1]).sum()) / untied if untied else None
