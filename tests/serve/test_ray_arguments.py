"""Arguments of the Ray Serve application; Ray itself is not needed to read them."""

import pytest

from gliclass_rerank.errors import ConfigError
from gliclass_rerank.ray.settings import read_arguments


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"min_replica": 1}, "there is no setting 'min_replica'; did you mean `min_replicas`?"),
        ({"slots": "two"}, "`slots` must be of the type int, got 'two'"),
        ({"min_replicas": 3, "max_replicas": 2}, "`max_replicas` must be at least `min_replicas`, got 2 and 3"),
        ({"port": 1}, "there is no setting 'port'"),
    ],
)
def test_a_wrong_argument_is_an_error_that_names_it(given, message):
    with pytest.raises(ConfigError, match=message):
        read_arguments(given)


def test_arguments_are_text_or_values_and_threads_are_the_cores():
    deployment, server = read_arguments(
        {"model": "a b=/m", "max-replicas": "3", "num_cpus": 2.0, "slots": "1", "log-texts": "false", "dtype": "int8"}
    )

    assert (deployment.max_replicas, deployment.num_cpus) == (3, 2.0)
    assert (server.model, server.slots) == (("a", "b=/m"), 1)
    assert (server.reranker.threads, server.reranker.log_texts, server.reranker.dtype) == (2, False, "int8")
