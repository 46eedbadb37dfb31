"""The controls of the benchmarks of examples: what they conclude hangs on these few functions."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from gliclass_rerank import Example
from gliclass_rerank.examples import CallableEncoder

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="a source distribution has no benchmarks")

POOL = [Example(f"text {number}", (f"true {number}",), (f"false {number}",)) for number in range(6)]


@pytest.fixture
def benchmark_module():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def shown(benchmark_module):
    return benchmark_module("shown_examples")


def encoder():
    """`text n` points in a direction that turns with n, so the nearest of 2.2 are 2, 3, 1; all other texts in one."""

    def embed(texts):
        angles = np.array([0.3 * float(text[5:]) if text.startswith("text ") else 0.0 for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)

    return CallableEncoder(embed, name="angles")


def test_random_examples_are_others_and_as_many_as_asked(shown):
    seen = set()
    for seed in range(50):
        positions = shown.random_positions(POOL, "TEXT  3", 5, np.random.default_rng(seed))
        assert len(positions) == len(set(positions)) == 5
        seen.update(positions)
    assert seen == {0, 1, 2, 4, 5}
    assert shown.random_positions(POOL, "text 3", 0, np.random.default_rng(0)) == []


def test_shuffling_keeps_texts_and_the_frequency_of_labels_but_no_pair(shown):
    shuffled = shown.shuffled_labels(POOL, seed=1)
    assert [example.text for example in shuffled] == [example.text for example in POOL]
    assert Counter(example.true_labels for example in shuffled) == Counter(example.true_labels for example in POOL)
    for before, after in zip(POOL, shuffled, strict=True):
        assert before.true_labels != after.true_labels
        assert after.true_labels[0].split()[1] == after.false_labels[0].split()[1]  # both come from one example


def test_choice_is_what_a_store_finds_with_controls_of_the_same_size(shown):
    texts = ["text 2.2", "text 3", "text 9"]  # the second is in the pool, nothing is near the third
    choice = shown.choose(texts, POOL, encoder=encoder(), most=2, min_similarity=0.9, seed=0)
    names = [[example.text for example in examples] for examples in choice.by_way["similar"]]
    assert names == [["text 2", "text 3"], ["text 2", "text 4"], []]
    for way in ("random", "shuffled"):
        assert [len(examples) for examples in choice.by_way[way]] == [2, 2, 0]
    assert [[example.text for example in examples] for examples in choice.by_way["shuffled"]] == names
    assert all(example.text != "text 3" for example in choice.by_way["random"][1])
    statistics = choice.statistics(lambda number, example: number == 0 and example.true_labels == ("true 2",))
    assert statistics["with_examples"] == pytest.approx(2 / 3)
    assert statistics["mean_examples"] == pytest.approx(4 / 3)
    assert statistics["hints, similar"] == 0.25


def test_answers_grow_by_one_example_and_equal_prompts_are_asked_once(shown):
    choice = shown.choose(["text 2.2", "text 9"], POOL, encoder=encoder(), most=2, min_similarity=0.9, seed=0)
    asked = []

    def answer(number, examples):
        asked.append((number, examples))
        return float(len(examples))

    found = shown.answers(choice, answer, most=2, title="")
    assert len(asked) == len(set(asked))
    assert [examples for number, examples in asked if number == 1] == [()]
    rows = found.rows(lambda answers: shown.Measured(sum(answers), answers))
    assert [row["examples"] for row in rows] == ["similar", "random", "shuffled"]
    assert [row["figures"] for row in rows] == [[0.0, 1.0, 2.0]] * 3


def test_p_value_is_that_of_all_swaps(shown):
    assert shown.p_value([1, 2, 3], [1, 2, 3]) == 1.0
    assert shown.p_value([1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]) == pytest.approx(2 / 16)
    assert shown.p_value([1.0, 0.0, 0.0], [0.0, 0.0, 0.0]) == 1.0


def test_judged_queries_come_from_the_training_split_or_from_the_one_that_is_measured(benchmark_module, tmp_path):
    files = {
        "queries.jsonl": '{"id": "q1", "text": "flat tyre"}\n{"id": "q2", "text": "loud bell"}\n'
        '{"id": "q3", "text": "puncture"}\n',
        "corpus.jsonl": '{"id": "d1", "text": "Patch it."}\n{"id": "d2", "text": "Ring it."}\n',
        "qrels.train.tsv": "q1\td1\t1\nq1\td2\t0\n",
        "qrels.dev.tsv": "q2\td2\t1\nq3\td1\t1\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    rac_ranking = benchmark_module("rac_ranking")
    split = benchmark_module("ranking_sets").measured_split(tmp_path)
    assert split == "dev"
    assert rac_ranking.example_pool(tmp_path, "train", None, 0) == [Example("flat tyre", ("Patch it.",), ("Ring it.",))]
    others = {example.text: example.true_labels for example in rac_ranking.example_pool(tmp_path, split, None, 0)}
    assert others == {"loud bell": ("Ring it.",), "puncture": ("Patch it.",)}
