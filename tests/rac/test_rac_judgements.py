"""What a store gives ranking and classifying, and what it learns from judgements."""

import gc
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rac_data import ENCODER

import gliclass_rerank.examples
from gliclass_rerank import Example
from gliclass_rerank.errors import DataError, InputError
from gliclass_rerank.examples import ExampleStore
from gliclass_rerank.examples.judgements import merged, text_id

CHAIN = Example("the chain slips", ["oil the chain"], ["raise the saddle"])
BRAKE = Example("the brakes squeal", ["clean the rim"])


def test_public_names_are_unique_importable_and_all_that_there_is():
    names = gliclass_rerank.examples.__all__

    assert all(getattr(gliclass_rerank.examples, name) is not None for name in names)
    assert dir(gliclass_rerank.examples) == sorted(set(names))
    assert len(names) == len(set(names))
    with pytest.raises(AttributeError, match=r"module 'gliclass_rerank\.examples' has no attribute 'Nonsense'"):
        _ = gliclass_rerank.examples.Nonsense


def test_examples_for_several_texts_are_what_a_search_finds_without_those_of_the_text_itself(store):
    store.add([CHAIN, BRAKE])

    assert store.find_examples(["the chain slips", "The  CHAIN slips", "the brakes"], 2, 0.1) == [
        [BRAKE],
        [],
        [BRAKE, CHAIN],
    ]
    assert store.find_examples(["the chain slips"], 1, 0.1, allow_equal=True) == [[CHAIN]]
    assert store.find_examples([], 3, 0.5) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("the chain", 3, 0.5), "must be a list of strings, got 'the chain'"),
        ((["the chain"], 0, 0.5), "`k` must be a whole number of at least 1, got 0"),
        ((["the chain"], 3, 2), "`min_similarity` must be between -1 and 1, got 2"),
    ],
)
def test_wrong_arguments_of_a_search_are_refused(store, arguments, message):
    with pytest.raises(InputError, match=message):
        store.find_examples(*arguments)


def test_judgements_of_a_text_come_together_under_an_id_that_is_made_of_it(store):
    name = store.add_judgements(CHAIN, metadata={"shop": "north", "year": 1})
    again = store.add_judgements(
        {"text": "The chain  SLIPS", "labels": ["wax it"], "false_labels": ["oil the chain"]}, metadata={"year": 2}
    )

    stored = store.get(name)
    assert name == again == text_id(CHAIN.text)
    assert stored.example == Example("the chain slips", ("wax it",), ("oil the chain", "raise the saddle"))
    assert stored.metadata == {"shop": "north", "year": 2}
    assert store.find_examples(["the chain"], 1, 0.5) == [[stored.example]]


def test_what_was_added_under_another_id_is_left_as_it_is(store):
    (added,) = store.add([CHAIN])
    store.add_judgements(Example(CHAIN.text, ["raise the saddle"]))

    assert len(store) == 2
    assert store.get(added).example == CHAIN


def test_an_id_belongs_to_one_text(store):
    store.add([CHAIN], ids=["one"])

    assert store.add_judgements(Example("the CHAIN slips", ["wax it"]), id="one") == "one"
    with pytest.raises(InputError, match="the id 'one' belongs to the example 'the chain slips', got 'the brakes"):
        store.add_judgements(BRAKE, id="one")
    assert store.get("one").example.true_labels == ("wax it", "oil the chain")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ((["a"], ["b"]), (["c"], ["d"]), (("c", "a"), ("d", "b"))),
        ((["a", "b"], []), ([], ["a"]), (("b",), ("a",))),
        (([], ["a", "b"]), (["b", "a", "b"], []), (("b", "a"), ())),
        ((["a", "b", "c"], []), (["c"], []), (("c", "a", "b"), ())),
    ],
)
def test_the_newer_judgement_of_a_label_wins(old, new, expected):
    assert merged(Example("one", *old), Example("ONE", *new)) == Example("one", *expected)


def test_no_judgement_is_lost_when_many_threads_judge_one_text(store):
    together = threading.Barrier(8)

    def judge(number):
        together.wait()
        for step in range(10):
            store.add_judgements(Example("the chain slips", [f"label {number} {step}"]))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(judge, range(8)))

    (stored,) = store
    assert sorted(stored.example.true_labels) == sorted(f"label {n} {step}" for n in range(8) for step in range(10))


def test_judgements_are_there_when_the_store_is_opened_again(opened):
    first = opened()
    name = first.add_judgements(CHAIN)
    first.add_judgements(Example(CHAIN.text, [], ["oil the chain"]))
    first.close()

    assert opened().get(name).example == Example(CHAIN.text, (), ("oil the chain", "raise the saddle"))


def test_a_store_that_is_read_only_learns_nothing(opened):
    opened().close()

    with pytest.raises(InputError, match="it cannot be changed"):
        opened(read_only=True).add_judgements(CHAIN)


def test_a_store_that_nobody_holds_gives_its_file_up(tmp_path):
    path = tmp_path / "judged.db"
    forgotten = ExampleStore(path, ENCODER)
    forgotten.add([CHAIN])
    with pytest.raises(DataError, match="open elsewhere"):
        ExampleStore.reencode(path, ENCODER)

    del forgotten
    gc.collect()

    with ExampleStore(path, ENCODER) as store:
        assert not store.is_closed
        assert len(store) == 1
    assert ExampleStore.reencode(path, ENCODER) == 1
    assert store.is_closed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a forked process")
def test_a_forked_process_that_forgets_a_store_leaves_it_to_its_parent(tmp_path):
    code = """
import os, sys
from rac_data import ENCODER
from gliclass_rerank import Example
from gliclass_rerank.examples import ExampleStore
store = ExampleStore(sys.argv[1], ENCODER)
store.add([Example("one")])
child = os.fork()
if not child:
    del store
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
store.add([Example("two")])
print(len(store))
"""
    path = tmp_path / "judged.db"
    ran = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert (ran.stdout, ran.stderr) == ("2\n", "")
    with ExampleStore(path, ENCODER) as store:
        assert len(store) == 2
