"""Workers of `gliclass-rerank batch --ray`: parts go to actors, and come back in any order.

Reading and writing stay in the driver, so that the cluster needs no common disk. The part of a worker that dies goes to
another one, and a new worker starts where there is room. A part is stored once, because the driver alone stores.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from types import ModuleType
from typing import Any, Final

from gliclass_rerank.batch.parts import Part
from gliclass_rerank.batch.run import RankParts
from gliclass_rerank.batch.settings import BatchSettings
from gliclass_rerank.errors import ConfigError
from gliclass_rerank.ray.actor import RerankActor
from gliclass_rerank.ray.cluster import connected, failure
from gliclass_rerank.settings import RerankerSettings

# One is ranked while the next one travels.
_PARTS_OF_WORKER: Final = 2
# A part that kills its worker each time, such as by its memory, must not do so for ever; neither must a model that
# cannot be loaded.
_MOST_DEATHS: Final = 4


def rank_on_cluster(settings: BatchSettings, reranker: RerankerSettings, where: Sequence[str]) -> RankParts:
    """Rank on a Ray cluster.

    Args:
        settings: Settings of the job, with the cluster's address.
        reranker: Settings of the model, whose paths are those of the workers' machines.
        where: Required metadata of judged examples, each as KEY=VALUE.

    Returns:
        Function for `run_job`. It raises a `ConfigError` if there is no cluster or too small a one, and a
        `BackendError` if workers cannot load the model, or die again and again over one part.
    """
    values = reranker.to_dict()
    if settings.ray_gpus == 0:
        values = {"threads": max(1, int(settings.ray_cpus)), **values}

    def rank_parts(parts: Iterable[Part]) -> Iterator[tuple[Part, bytes]]:
        parts = iter(parts)
        if (first := next(parts, None)) is None:
            return
        assert settings.ray is not None, "asked for"
        with connected(settings.ray) as ray:
            kind = ray.remote(RerankActor).options(num_cpus=settings.ray_cpus, num_gpus=settings.ray_gpus)
            count = settings.ray_workers or _room(ray.cluster_resources(), settings)
            texts = {"top_k": settings.top_k, "where": tuple(where), "texts": settings.texts}
            pool = Workers(ray, lambda: kind.remote(values, **texts), count)
            try:
                yield from pool.ranked(chain([first], parts))
            finally:
                pool.close()

    return rank_parts


def _room(resources: dict[str, float], settings: BatchSettings) -> int:
    """Workers that a cluster has room for."""
    wanted = {"CPU": settings.ray_cpus, "GPU": settings.ray_gpus}
    rooms = [int(resources.get(name, 0.0) / amount) for name, amount in wanted.items() if amount]
    if not rooms:
        raise ConfigError("`ray_workers` must be given if a worker takes neither `ray_cpus` nor `ray_gpus`, got None")
    if not min(rooms):
        takes, has = (
            " and ".join(f"{amounts.get(name, 0.0):g} {name}s" for name in wanted) for amounts in (wanted, resources)
        )
        raise ConfigError(f"`ray` has room for no worker: one takes {takes}, the cluster has {has}")
    return min(rooms)


class Workers:
    """Workers with the parts that they have in hand.

    Args:
        ray: Ray, connected.
        start: Starts a worker.
        count: Number of workers.
    """

    def __init__(self, ray: ModuleType, start: Callable[[], Any], count: int) -> None:  # Any: Ray's handles
        self._ray = ray
        self._start = start
        self._running: dict[Any, tuple[Part | None, Any]] = {}  # None: it loads its model
        self._idle: deque[Any] = deque()
        self._alive: list[Any] = []
        self._deaths: Counter[int | None] = Counter()
        self._again: deque[Part] = deque()
        for _ in range(count):
            self._add()

    def ranked(self, parts: Iterable[Part]) -> Iterator[tuple[Part, bytes]]:
        """Rank parts, of which no more are read than the workers have in hand.

        Args:
            parts: The parts.

        Yields:
            Each part with its content, as they are done.

        Raises:
            BackendError: Workers cannot load the model, or die again and again over one part.
        """
        left = iter(parts)
        while True:
            while self._idle and (part := self._again.popleft() if self._again else next(left, None)) is not None:
                worker = self._idle.popleft()
                self._running[worker.rank.remote(part.rows)] = part, worker
            if self._is_over():
                return
            (done,), _ = self._ray.wait(list(self._running), num_returns=1)
            part, worker = self._running.pop(done)
            try:
                content = self._ray.get(done)
            except self._ray.exceptions.RayActorError as error:
                self._replace(part, worker, error)
                continue
            except self._ray.exceptions.RayError as error:
                raise failure(error) from error
            if part is None:
                self._deaths[None] = 0
                self._idle.extend([worker] * _PARTS_OF_WORKER)
            else:
                self._idle.append(worker)
                yield part, content

    def close(self) -> None:
        """End all workers."""
        for worker in self._alive:
            self._ray.kill(worker)

    def _is_over(self) -> bool:
        """Test after all parts that could be sent are: an idle worker means that there are no more."""
        is_ranking = any(part is not None for part, _ in self._running.values())
        return bool(self._idle) and not self._again and not is_ranking

    def _add(self) -> None:
        worker = self._start()
        self._alive.append(worker)
        self._running[worker.ready.remote()] = None, worker

    def _replace(self, part: Part | None, worker: Any, error: Exception) -> None:
        """Start another worker in a dead one's place; its part goes to whoever is free."""
        place = None if part is None else part.number
        self._deaths[place] += 1
        if self._deaths[place] >= _MOST_DEATHS:
            raise failure(error) from error
        if part is not None:
            self._again.append(part)
        if worker in self._alive:
            self._alive.remove(worker)
            self._idle = deque(each for each in self._idle if each is not worker)
            self._add()
