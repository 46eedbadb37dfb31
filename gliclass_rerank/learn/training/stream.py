"""The training stream: item i is a pure function of the seed and i.

Nothing is kept from one item to the next, so a run that resumes at position i reads exactly what an uninterrupted one
would have read. Token ids come from the library's own planners: training sees the prompts that inference writes.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from gliclass_rerank.errors import DataError, InputError, WindowOverflowError
from gliclass_rerank.learn.training.config import SourceConfig
from gliclass_rerank.learn.training.mixing import Mixture
from gliclass_rerank.learn.training.questions import Question, ask_about
from gliclass_rerank.learn.training.records import ClassificationRecord, RankingRecord
from gliclass_rerank.learn.training.sources import Records
from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.prompt.planner import Planner, TokenPlan

logger = logging.getLogger(__name__)

Prepared = TypeVar("Prepared")

# Draws per item before a source is given up: a query that fills its window is passed over.
_MAX_DRAWS = 20
# What is prepared ahead of what is trained on.
_AHEAD = 2


@dataclass(frozen=True)
class Item:
    """One query with its candidates, planned.

    Attributes:
        question: The texts and what is known about them.
        plan: Their token ids.
        source: Which source it is from.
    """

    question: Question
    plan: TokenPlan[Any]  # Any: windows or blocks
    source: int

    @property
    def num_tokens(self) -> int:
        """Tokens without padding."""
        return sum(request.num_tokens for request in self.plan.requests)


class Stream:
    """Items by position, from 0 without end; safe to share between threads.

    Args:
        sources: Each source's settings and records.
        planner: Writes token ids.
        seed: Decides every random choice.
    """

    def __init__(
        self,
        sources: Sequence[tuple[SourceConfig, Records[RankingRecord | ClassificationRecord]]],
        planner: Planner[Any],
        *,
        seed: int,
    ) -> None:
        self._sources, self._planner, self._seed = sources, planner, seed
        self._mixture = Mixture(
            [len(records) for _, records in sources], [config.weight for config, _ in sources], seed
        )

    @property
    def num_records(self) -> int:
        """Records of all sources together."""
        return sum(len(records) for _, records in self._sources)

    def __getitem__(self, position: int) -> Item:
        source, index = self._mixture.at(position)
        config, records = self._sources[source]
        rng = np.random.default_rng([self._seed, 2, position])
        for _ in range(_MAX_DRAWS):
            question = ask_about(records, index, config, rng)
            try:
                return Item(question, self._plan(question, config), source)
            except WindowOverflowError as error:
                logger.warning("%s is passed over: %s", question.place, error)
                refusal = error
                index = int(rng.integers(len(records)))
            except InputError as error:
                raise DataError(f"{question.place}: {error}") from error
        raise DataError(f"{question.place}: no record of this file seems to fit the window: {refusal}")

    def _plan(self, question: Question, config: SourceConfig) -> TokenPlan[Any]:
        request = ScoringRequest(
            text=question.text,
            candidates=question.candidates,
            prompt=config.prompt,
            examples=question.examples,
        )
        return self._planner.plan(request, truncate_side="candidates" if config.kind == "ranking" else "text")


def prepared(prepare: Callable[[int], Prepared], first: int) -> Generator[Prepared, None, None]:
    """Prepare positions from `first` on in a thread of their own, a few ahead of the one that is asked for.

    Args:
        prepare: Called with one position after the other.
        first: The first position.

    Yields:
        What `prepare` returned, in order, without end; closing the generator stops the thread.
    """
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="training-data")
    try:
        pending: deque[Future[Prepared]] = deque()
        position = first
        while True:
            while len(pending) < _AHEAD:
                pending.append(pool.submit(prepare, position))
                position += 1
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
