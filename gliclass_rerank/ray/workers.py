"""Workers of `gliclass-rerank batch --ray`: parts go to actors, and come back in any order.

Reading and writing stay in the driver, so that the cluster needs no common disk. A part whose worker dies is ranked by
its successor; it is stored once, because the driver alone stores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, cycle, islice
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
# A part that kills its worker each time, such as by its memory, must not do so for ever.
_RETRIES: Final = 3


def rank_on_cluster(settings: BatchSettings, reranker: RerankerSettings, where: Sequence[str]) -> RankParts:
    """Rank on a Ray cluster.

    Args:
        settings: Settings of the job, with the cluster's address.
        reranker: Settings of the model, whose paths are those of the workers' machines.
        where: Required metadata of judged examples, each as KEY=VALUE.

    Returns:
        Function for `run_job`. It raises a `ConfigError` if there is no cluster or too small a one, and a
        `BackendError` if a worker cannot load the model or dies again and again.
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
            workers = _started(ray, settings, values, where)
            try:
                yield from _ranked(ray, workers, chain([first], parts))
            finally:
                for worker in workers:
                    ray.kill(worker)

    return rank_parts


def _started(
    ray: ModuleType, settings: BatchSettings, values: dict[str, Any], where: Sequence[str]
) -> list[Any]:  # Any: Ray's handles
    count = settings.ray_workers or _room(ray.cluster_resources(), settings)
    kind = ray.remote(RerankActor).options(
        num_cpus=settings.ray_cpus, num_gpus=settings.ray_gpus, max_restarts=-1, max_task_retries=_RETRIES
    )
    workers = [
        kind.remote(values, top_k=settings.top_k, where=tuple(where), texts=settings.texts) for _ in range(count)
    ]
    try:
        ray.wait([worker.ready.remote() for worker in workers], num_returns=1)
        ray.get(workers[0].ready.remote())
    except ray.exceptions.RayError as error:
        raise failure(error) from error
    return workers


def _room(resources: dict[str, float], settings: BatchSettings) -> int:
    """Workers that a cluster has room for."""
    wanted = {"CPU": settings.ray_cpus, "GPU": settings.ray_gpus}
    rooms = [int(resources.get(name, 0.0) / amount) for name, amount in wanted.items() if amount]
    if not rooms:
        raise ConfigError("`ray_workers` must be given if a worker takes neither `ray_cpus` nor `ray_gpus`, got None")
    if not min(rooms):
        has = " and ".join(f"{resources.get(name, 0.0):g} {name}s" for name in wanted)
        raise ConfigError(f"a worker takes {settings.ray_cpus:g} CPUs and {settings.ray_gpus:g} GPUs; the cluster has {has}")
    return min(rooms)


def _ranked(ray: ModuleType, workers: Sequence[Any], parts: Iterable[Part]) -> Iterator[tuple[Part, bytes]]:
    """Parts with their content, as they come; no more are read than the workers have in hand."""
    parts = iter(parts)
    running: dict[Any, tuple[Part, Any]] = {}
    free = islice(cycle(workers), _PARTS_OF_WORKER * len(workers))

    def send(worker: Any) -> None:
        if (part := next(parts, None)) is not None:
            running[worker.rank.remote(part.rows)] = part, worker

    for worker in free:
        send(worker)
    while running:
        (done,), _ = ray.wait(list(running), num_returns=1)
        part, worker = running.pop(done)
        try:
            content = ray.get(done)
        except ray.exceptions.RayError as error:
            raise failure(error) from error
        send(worker)
        yield part, content
