"""`RerankActor` in Ray Data: a row out for a row in, from Parquet to Parquet."""

import pyarrow as pa
import pytest
import ray
from pyarrow import parquet
from test_batch import row

from gliclass_rerank import Reranker
from gliclass_rerank.errors import InputError
from gliclass_rerank.ray import RerankActor

NUM_ROWS = 60


def test_map_batches_adds_the_answers_to_each_row(cluster, model, tmp_path):
    rows = [row(number) for number in range(NUM_ROWS)]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet", row_group_size=10)

    ranked = ray.data.read_parquet(str(tmp_path / "in.parquet"), override_num_blocks=4).map_batches(
        RerankActor,
        fn_constructor_kwargs={"settings": {"model": model, "backend": "torch", "threads": 1}, "top_k": 3},
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=1),
        batch_format="pyarrow",
        batch_size=16,
        num_cpus=0.5,
    )
    ranked.write_parquet(str(tmp_path / "out"))

    found = sorted(parquet.read_table(tmp_path / "out").to_pylist(), key=lambda each: each["id"])
    reranker = Reranker(model, device="cpu", backend="torch", threads=1)
    assert [each["id"] for each in found] == list(range(NUM_ROWS))
    for given, answer in zip(rows, found, strict=True):
        expected = reranker.rank(given["query"], given["passages"], top_k=3).to_list()
        assert [(hit["index"], hit["score"]) for hit in answer["hits"]] == [
            (hit["index"], hit["score"]) for hit in expected
        ]


def test_a_batch_that_is_no_table_is_refused_with_the_remedy(model):
    actor = RerankActor({"model": model, "backend": "torch"})
    with pytest.raises(InputError, match="pass `batch_format='pyarrow'`"):
        actor({"query": ["a"], "passages": [["b"]]})
