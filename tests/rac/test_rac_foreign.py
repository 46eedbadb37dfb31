"""Example sources over somebody else's store: what is read, what is left out, what a similarity is."""

import copy
import json
import pickle

import numpy as np
import pytest
from rac_data import ENCODER, bag_of_words

from gliclass_rerank import Example
from gliclass_rerank.errors import BackendError, ConfigError, InputError
from gliclass_rerank.examples import ExampleStore
from gliclass_rerank.examples.foreign import FALSE_LABELS, TRUE_LABELS, ForeignExampleSource, example_metadata
from gliclass_rerank.examples.source import ExampleSource

CHAIN = Example("the chain slips", ["oil the chain"], ["raise the saddle"])
WORN = Example("the chain is worn and slips", ["replace the chain"])
BRAKE = Example("the brakes squeal", ["clean the rim"])
SADDLE = Example("the saddle is too low", [], ["oil the chain"])
ALL = (BRAKE, CHAIN, SADDLE, WORN)
QUERY = "the chain slips badly"


def cosine(one, other):
    a, b = bag_of_words([one, other])
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


class ListSource(ForeignExampleSource[dict]):
    """A store that is a list, scores by `1 - cosine` and never returns more than `limit` documents."""

    def __init__(self, documents, *, to_cosine=None, limit=None, dim=None):
        super().__init__(to_cosine)
        self.documents, self.limit, self.dim = documents, limit, dim
        self.counts, self.num_embedded = [], 0

    def _query_vector(self, text):
        return bag_of_words([text])[0].tolist()

    def _search(self, text, vector, count):
        self.counts.append(count)
        scored = [(document, 1 - cosine(text, document["text"] or "none")) for document in self.documents]
        return sorted(scored, key=lambda hit: hit[1])[:count][: self.limit]

    def _content(self, document):
        return document["text"], document["meta"]

    def _document_vectors(self, documents):
        self.num_embedded += len(documents)
        return [vector[: self.dim] for vector in bag_of_words([document["text"] for document in documents])]


def documents(examples):
    return [{"text": example.text, "meta": example_metadata(example)} for example in examples]


def test_it_is_an_example_source():
    assert isinstance(ListSource([]), ExampleSource)


def test_it_finds_what_our_own_store_finds():
    with ExampleStore(None, ENCODER) as store:
        store.add(ALL)
        for least in (-1.0, 0.3, 0.6, 0.99):
            expected = [[found.example for found in store.search(text, 3, least)] for text in (QUERY, "brakes", "rain")]
            assert ListSource(documents(ALL)).find_examples([QUERY, "brakes", "rain"], 3, least) == expected


def test_the_threshold_is_a_cosine_whatever_the_stores_score_is():
    least = cosine(QUERY, CHAIN.text)
    assert ListSource(documents(ALL)).find_examples([QUERY], 4, least - 1e-4) == [[CHAIN]]
    assert ListSource(documents(ALL)).find_examples([QUERY], 4, least + 1e-4) == [[]]


def test_a_score_that_becomes_a_cosine_spares_the_vectors():
    source = ListSource(documents(ALL), to_cosine=lambda distance: 1 - distance)
    assert source.find_examples([QUERY, "brakes"], 2, 0.2) == ListSource(documents(ALL)).find_examples(
        [QUERY, "brakes"], 2, 0.2
    )
    assert source.num_embedded == 0


@pytest.mark.parametrize("to_cosine", [lambda score: score + 2, lambda score: float("nan"), lambda score: "0.9"])
def test_a_score_that_is_no_cosine_is_refused(to_cosine):
    with pytest.raises(BackendError, match=r"`to_cosine` must return a cosine, in \[-1, 1\], got .* for the score 0\."):
        ListSource(documents(ALL), to_cosine=to_cosine).find_examples([QUERY], 1, 0.5)


def test_a_missing_score_is_refused():
    class Unscored(ListSource):
        def _search(self, text, vector, count):
            return [(document, None) for document, _ in super()._search(text, vector, count)]

    assert Unscored(documents(ALL)).find_examples([QUERY], 1, 0.5) == [[CHAIN]]
    with pytest.raises(BackendError, match="a document without a score"):
        Unscored(documents(ALL), to_cosine=float).find_examples([QUERY], 1, 0.5)


def test_the_text_itself_is_left_out_however_it_is_written():
    own = [Example("The  chain SLIPS badly", ["leak"]), Example(f"{QUERY}\n", ["leak"])]
    source = ListSource(documents([*own, *ALL]))
    assert source.find_examples([QUERY], 2, 0.1) == [[CHAIN, WORN]]
    assert source.find_examples([QUERY], 1, 0.1, allow_equal=True) == [[own[1]]]


def test_others_are_found_behind_any_number_of_equal_texts():
    source = ListSource(documents([Example(QUERY, [f"leak {number}"]) for number in range(50)] + [*ALL]))
    assert source.find_examples([QUERY], 2, 0.1) == [[CHAIN, WORN]]
    assert source.counts == [4, 8, 16, 32, 64]


def test_one_search_is_enough_where_nothing_is_left_out():
    source = ListSource(documents(ALL))
    assert source.find_examples([QUERY], 2, 0.1, allow_equal=True) == [[CHAIN, WORN]]
    assert source.counts == [2]
    assert source.find_examples(["rain"], 2, -1.0)[0]
    assert source.counts == [2, 4]
    assert source.num_embedded == 4


def test_a_store_that_has_no_more_or_returns_no_more_is_not_asked_for_ever():
    full = ListSource(documents(ALL))
    assert full.find_examples(["the chain slips"], 9, -1.0)[0][0] == WORN
    assert full.counts == [18, 36]
    limited = ListSource(documents([Example(QUERY, ["leak"])] * 9), limit=2)
    assert limited.find_examples([QUERY], 1, 0.1) == [[]]
    assert limited.counts == [2, 4]


def test_no_more_than_a_thousand_documents_are_fetched():
    source = ListSource(documents([Example(QUERY, ["leak"])] * 3 + [CHAIN]))
    source._search = lambda text, vector, count: source.counts.append(count) or [(source.documents[0], 0.0)] * count
    assert source.find_examples([QUERY], 3, 0.1) == [[]]
    assert source.counts[-1] == 1000


def test_an_empty_store_and_no_texts_give_nothing():
    assert ListSource([]).find_examples([QUERY, "rain"], 3, 0.5) == [[], []]
    assert ListSource(documents(ALL)).find_examples([], 3, 0.5) == []


def test_ties_keep_the_stores_order():
    twins = [Example("slips chain the", [str(number)]) for number in range(4)]
    assert ListSource(documents(twins)).find_examples(["the chain slips"], 3, 0.5) == [twins[:3]]


def test_labels_are_read_as_json_text_and_as_lists():
    for example in ALL:
        metadata = example_metadata(example)
        assert all(isinstance(value, str) for value in metadata.values())
        lists = {name: json.loads(value) for name, value in metadata.items()}
        for form in (metadata, lists, {**lists, "shop": "north"}):
            source = ListSource([{"text": example.text, "meta": form}])
            assert source.find_examples(["any"], 1, -1.0) == [[example]]
    assert example_metadata(Example("x", ['quo"te', "日本"]))[TRUE_LABELS] == '["quo\\"te", "日本"]'


def test_either_list_of_labels_may_be_missing():
    for meta, example in (
        ({TRUE_LABELS: ["a"]}, Example("text", ["a"])),
        ({FALSE_LABELS: '["b"]', TRUE_LABELS: None}, Example("text", [], ["b"])),
    ):
        assert ListSource([{"text": "text", "meta": meta}]).find_examples(["any"], 1, -1.0) == [[example]]


@pytest.mark.parametrize(
    ("text", "meta", "message"),
    [
        ("brakes", {"page": 3}, r"'brakes': its metadata must have `true_labels` or `false_labels`, got .*'page'"),
        (
            "brakes",
            {TRUE_LABELS: "sports"},
            "'brakes': `true_labels` must be a list of strings, or one as JSON text, got 'sp",
        ),
        (
            "brakes",
            {TRUE_LABELS: '"sports"'},
            "'brakes': `true_labels` must be a list of strings, or one as JSON text, got",
        ),
        ("brakes", {FALSE_LABELS: "3"}, "'brakes': `false_labels` must be a list of strings, got 3"),
        ("brakes", {FALSE_LABELS: [3]}, r"'brakes': `false_labels\[0\]` must be a string, got 3"),
        (None, {TRUE_LABELS: ["a"]}, "None: the text must be a string, got None"),
        ("brakes " * 99, {}, r"'brakes [a-z ]{31}…[a-z ]{39}': its metadata must have"),
    ],
)
def test_a_document_that_is_no_example_is_one_clear_error(text, meta, message):
    with pytest.raises(BackendError, match=f"the store returned a document that is no example, {message}"):
        ListSource([{"text": text, "meta": meta}]).find_examples(["any"], 1, -1.0)


def test_what_the_store_raises_is_named():
    class Down(ListSource):
        def _search(self, text, vector, count):
            raise ConnectionError("refused by localhost:6333")

    with pytest.raises(
        BackendError, match="the example store failed: ConnectionError: refused by localhost:6333"
    ) as info:
        Down([]).find_examples([QUERY], 1, 0.5)
    assert isinstance(info.value.__cause__, ConnectionError)


def test_vectors_of_another_model_are_refused():
    with pytest.raises(BackendError, match=r"one length, got the shapes \[2, 16\] and \[2, 3\]"):
        ListSource(documents(ALL), dim=3).find_examples([QUERY], 2, 0.5)


@pytest.mark.parametrize(
    ("texts", "k", "least", "message"),
    [
        ("a text", 1, 0.5, "`texts` must be a list of strings, got 'a text'"),
        ([3], 1, 0.5, r"`texts\[0\]` must be a string, got 3"),
        (["a"], 0, 0.5, "`k` must be a whole number of at least 1, got 0"),
        (["a"], 1, 1.5, "`min_similarity` must be between -1 and 1, got 1.5"),
        (["a"], 1, "0.5", "`min_similarity` must be between -1 and 1, got '0.5'"),
    ],
)
def test_a_wrong_argument_is_refused_before_the_store_is_asked(texts, k, least, message):
    source = ListSource(documents(ALL))
    with pytest.raises(InputError, match=message):
        source.find_examples(texts, k, least)
    assert source.counts == []


def test_a_translation_that_is_no_function_is_refused():
    with pytest.raises(ConfigError, match="`to_cosine` must be a function of a score, or None, got 'cosine'"):
        ListSource([], to_cosine="cosine")


def test_copies_share_the_store():
    source = ListSource(documents(ALL))
    assert copy.copy(source) is copy.deepcopy(source) is source


def test_a_source_pickles_if_its_store_does():
    source = pickle.loads(pickle.dumps(ListSource(documents(ALL))))
    assert source.find_examples([QUERY], 1, 0.5) == [[CHAIN]]
