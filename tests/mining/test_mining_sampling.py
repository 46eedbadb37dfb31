import pytest

from gliclass_rerank.errors import ConfigError
from gliclass_rerank.learn.data.sampling import Sampling

SAMPLING = Sampling(num_negatives=10, depth=50, head_size=8, head_share=0.4, seed=3)


def draws(candidates, num_wanted=10, query_id="q", sampling=SAMPLING):
    return sampling.draws(candidates, num_wanted, sampling.generator(query_id))


def test_the_head_gives_its_share_and_the_middle_the_rest():
    drawn = draws(list(range(100, 150)))
    assert sorted(drawn) == list(range(100, 150))
    assert all(index < 108 for index in drawn[:4])
    assert all(index >= 108 for index in drawn[4:46])  # replacements come from the middle first
    assert all(index < 108 for index in drawn[46:])


def test_a_short_list_is_drawn_whole():
    assert sorted(draws([5, 6, 7])) == [5, 6, 7]
    assert draws([]) == []


def test_draws_depend_on_seed_and_query_alone():
    candidates = list(range(50))
    assert draws(candidates) == draws(candidates)
    assert draws(candidates) != draws(candidates, query_id="other")
    assert draws(candidates) != draws(candidates, sampling=Sampling(num_negatives=10, depth=50, seed=4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_negatives": 0}, "`num_negatives` must be at least 1, got 0"),
        ({"depth": 0}, "`depth` must be at least 1, got 0"),
        ({"head_size": 101}, "`head_size` must be between 0 and the depth of 100, got 101"),
        ({"head_share": 1.5}, "`head_share` must be between 0 and 1, got 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Sampling(**settings)
