"""Training stream: item i is a pure function of the seed and i.

A run resumed at position i reads exactly the items of an uninterrupted one. Token ids come from the library's planners:
training and inference share prompts.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from gliclass_rerank.errors import DataError, InputError, WindowOverflowError
from gliclass_rerank.learn.training.mixing import Mixture
from gliclass_rerank.learn.training.questions import Question, ask_about
from gliclass_rerank.learn.training.record_file import Records
from gliclass_rerank.learn.training.records import AnyRecord
from gliclass_rerank.learn.training.source_config import SourceConfig
from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.prompt.planner import Planner, TokenPlan

logger = logging.getLogger(__name__)

Prepared = TypeVar("Prepared")

# Draws per item before a source is abandoned: a query that fills its window is skipped.
_MAX_DRAWS = 20
# Positions prepared ahead.
_AHEAD = 2


@dataclass(frozen=True)
class Item:
    """Planned query with its candidates.

    Attributes:
        question: Texts and targets.
        plan: Token plan.
        source: Index of the source.
    """

    question: Question
    plan: TokenPlan[Any]  # Any: windows or blocks
    source: int

    @property
    def num_tokens(self) -> int:
        """Tokens without padding."""
        return self.plan.num_tokens


class Stream:
    """Endless items by position, from 0; thread-safe.

    Args:
        sources: Settings and records of each source.
        planner: Planner of token ids.
        seed: Seed of every random choice.
    """

    def __init__(
        self,
        sources: Sequence[tuple[SourceConfig, Records[AnyRecord]]],
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
        """Records of all sources."""
        return sum(len(records) for _, records in self._sources)

    def __getitem__(self, position: int) -> Item:
        source, index = self._mixture.at(position)
        config, records = self._sources[source]
        rng = np.random.default_rng([self._seed, 2, position])
        for _ in range(_MAX_DRAWS):
            question = replace(ask_about(records, index, config, rng), seed=self._policy_seed(position))
            try:
                return Item(question, self._plan(question, config), source)
            except WindowOverflowError as error:
                logger.warning("%s is passed over: %s", question.place, error)
                refusal = error
                index = int(rng.integers(len(records)))
            except InputError as error:
                raise DataError(f"{question.place}: {error}") from error
        raise DataError(f"{question.place}: no record of this file seems to fit the window: {refusal}")

    def _policy_seed(self, position: int) -> int:
        return int(np.random.SeedSequence([self._seed, 6, position]).generate_state(1, np.uint64)[0]) >> 1

    def _plan(self, question: Question, config: SourceConfig) -> TokenPlan[Any]:
        request = ScoringRequest(
            text=question.text,
            candidates=question.candidates,
            prompt=config.prompt,
            examples=question.examples,
        )
        return self._planner.plan(request, truncate_side="text" if config.kind == "classification" else "candidates")


def prepared(prepare: Callable[[int], Prepared], first: int) -> Generator[Prepared, None, None]:
    """Prepare positions from `first` on in a thread, a few ahead.

    Args:
        prepare: Function of a position.
        first: First position.

    Yields:
        Results in order, without end; closing the generator stops the thread.
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
